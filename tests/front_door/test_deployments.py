"""Models under names of an upstream's own (Azure deployments, aliases): held, priced and audited as what they are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.audit import verdict
from pricing.book import Book
from tests.front_door.conftest import Serve
from tests.harness.books import record_after
from tests.harness.messages import request, response
from tests.harness.raw_client import ask
from tests.harness.scripted import ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAMES = {"models": {"our-gpt": "gpt-4o-mini"}}
USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
BODY = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 100}


def answer(**more: Any) -> list[bytes]:
    body = {"object": "chat.completion", "choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}], **more}
    return [response(200, ("Content-Type", "application/json"), body=json.dumps(body).encode())]


@pytest.mark.parametrize("served", [{}, {"model": "our-gpt"}, {"model": "gpt-4o-mini-2024-07-18"}])
@pytest.mark.parametrize(
    "path", ["/up/openai/deployments/our-gpt/chat/completions?api-version=1", "/up/v1/chat/completions"]
)
async def test_a_deployment_costs_what_its_model_costs(
    upstream: ScriptedUpstream, serve: Serve, served: dict[str, str], path: str
) -> None:
    """Whether the answer names the model or not; the strict hold knows it beforehand."""
    gateway = await serve(up=NAMES, budgets=[{"scope": "global", "limit_usd": 1, "mode": "strict"}])
    upstream.answer = answer(usage=USAGE, **served)
    body = json.dumps(BODY | ({} if "deployments" in path else {"model": "our-gpt"})).encode()
    got = await ask(gateway.front_port, request("POST", path, body=body))
    record = await record_after(gateway, got)
    assert (record["model_requested"], record["priced_as"], record["unpriced"]) == ("our-gpt", "gpt-4o-mini", False)
    assert record["cost_nanousd"] == 1000 * 150 + 100 * 600
    assert record["held_nanousd"] == len(body) * 250 + 100 * 1000  # at the rates of its dearest tier, priority
    book = Book.load()
    assert verdict(record, lambda version: book).state == "same"


async def test_a_name_that_nobody_explained_is_unpriced(upstream: ScriptedUpstream, serve: Serve) -> None:
    """And charged by estimate, as ever."""
    gateway = await serve(up=NAMES)
    upstream.answer = answer(usage=USAGE)
    body = json.dumps(BODY | {"model": "your-gpt"}).encode()
    record = await record_after(
        gateway, await ask(gateway.front_port, request("POST", "/up/v1/chat/completions", body=body))
    )
    assert (record["priced_as"], record["unpriced"]) == ("", True)


async def test_upstream_provider_protocol_and_paths_are_each_their_own(
    upstream: ScriptedUpstream, serve: Serve
) -> None:
    """None of them is called what another one is."""
    gateway = await serve(
        up={"base_url": f"{upstream.url}/behind", "provider": "mistral", "models": {"ours": "mistral-large-latest"}}
    )
    upstream.answer = answer(usage=USAGE)
    body = json.dumps(BODY | {"model": "ours"}).encode()
    got = await ask(gateway.front_port, request("POST", "/up/v1/chat/completions?x=1", body=body))
    record = await record_after(gateway, got)
    names = "upstream", "provider", "protocol", "priced_as", "model_requested", "touched"
    assert [record[name] for name in names] == ["up", "mistral", "openai", "mistral-large-latest", "ours", []]
    (seen,) = upstream.seen
    assert (seen.method, seen.target) == (b"POST", b"/behind/v1/chat/completions?x=1")
    assert 0 <= record["read_ms"] <= record["sent_ms"]
