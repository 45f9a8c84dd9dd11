"""llama.cpp's own server behind the gateway: the same as directly, and what it says of its usage is what is booked."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.harness.differential import answer_changes
from tests.harness.gateways import config_for, in_process, record_of
from tests.harness.messages import Head, request
from tests.harness.raw_client import Answer, ask
from tests.real.conftest import llama_server

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

SAID_ANEW = re.compile(rb'"(?:id|item_id)":"[^"]*"|"(?:created|created_at|completed_at)":\d+|,?"timings":\{[^}]*\}')
"""What llama.cpp makes up for each answer."""
OPENAI = {"model": "tiny", "temperature": 0, "seed": 1}
CHAT = OPENAI | {"messages": [{"role": "user", "content": "What is the weather like? \u00e9\u4e16"}], "max_tokens": 24}
MESSAGES = {"model": "tiny", "temperature": 0, "max_tokens": 24, "messages": CHAT["messages"]}
STREAM = {"stream": True}
TOLD = {"stream_options": {"include_usage": True}}
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", CHAT),
    "chat, two choices": ("/v1/chat/completions", CHAT | {"n": 2}),
    "chat with log-probabilities": ("/v1/chat/completions", CHAT | {"logprobs": True, "top_logprobs": 2}),
    "chat, streamed": ("/v1/chat/completions", CHAT | STREAM | TOLD),
    "completion": ("/v1/completions", OPENAI | {"prompt": "Once upon a time", "max_tokens": 24}),
    "completion, streamed": ("/v1/completions", OPENAI | {"prompt": "Twice", "max_tokens": 24} | STREAM | TOLD),
    "embeddings": ("/v1/embeddings", {"model": "tiny", "input": ["one text", "and another"]}),
    "response": ("/v1/responses", OPENAI | {"input": "What is the time?", "max_output_tokens": 24}),
    "response, streamed": ("/v1/responses", OPENAI | {"input": "And now?", "max_output_tokens": 24} | STREAM),
    "message": ("/v1/messages", MESSAGES),
    "message, streamed": ("/v1/messages", MESSAGES | STREAM),
}
"""Calls whose answer says what was used."""
PRICES = {"id": "tiny", "provider": "self-hosted", "names": ["tiny*"], "rates": {"input": "2", "cached_input": "0.5", "output": "8"}}  # fmt: skip
NANO_USD = {"input": 2000, "cached_input": 500, "output": 8000}
"""The same, for one token."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def llama(tiny_model: Path) -> AsyncIterator[int]:
    """The port of llama.cpp."""
    async with llama_server(tiny_model) as port:
        yield port


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(llama: int, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    """A gateway whose upstreams all are llama.cpp, with a price for its model."""
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "prices.json").write_text(json.dumps({"rows": [PRICES]}))
    config = config_for(
        folder,
        f"http://127.0.0.1:{llama}",
        up={"provider": "self-hosted"},
        pricing={"overrides": str(folder / "prices.json")},
    )
    async with in_process(folder, config) as serving:
        yield serving


def blank(answer: Answer) -> Answer:
    """The answer without what is new each time. Its length, which depends on that, was right: it was read by it."""
    raw = re.sub(rb"(?im)^content-length: \d+", b"Content-Length: n", answer.head.raw)
    return replace(answer, head=Head(raw), body=replace(answer.body, content=SAID_ANEW.sub(b"*", answer.body.content)))


def changes(direct: Answer, through: Answer) -> list[str]:
    """What the gateway changed and may not change."""
    return list(answer_changes(blank(direct), blank(through)))


def said_usage(content: bytes) -> dict[str, int]:
    """Usage in the units of records, from all that the answer said of it."""
    said: dict[str, Any] = {}
    lines = [content] if content.startswith(b"{") else re.findall(rb"(?m)^data: (\{.*)$", content)
    for line in lines:
        document = json.loads(line)
        for place in (document, document.get("response") or {}, document.get("message") or {}):
            said |= place.get("usage") or {}
    read = said.get("prompt_tokens", said.get("input_tokens"))
    details = said.get("prompt_tokens_details") or said.get("input_tokens_details") or {}
    inside, outside = details.get("cached_tokens", 0), said.get("cache_read_input_tokens", 0)
    counts = {
        "input": read - inside,
        "cached_input": inside + outside,
        "output": said.get("completion_tokens", said.get("output_tokens", 0)),
    }
    return {unit: count for unit, count in counts.items() if count}


async def thrice(llama: int, gateway: Any, sent: bytes) -> tuple[Answer, Answer]:
    """Directly and through the gateway, after a first time that fills llama.cpp's prompt cache."""
    await ask(llama, sent)
    return await ask(llama, sent), await ask(gateway.front_port, sent)


@pytest.mark.parametrize(("path", "body"), CALLS.values(), ids=CALLS)
async def test_an_answer_is_the_same_as_directly_and_costs_what_it_says(
    llama: int, gateway: Any, path: str, body: dict[str, Any]
) -> None:
    """Status, fields and body; and the record holds the usage that the server said, priced to the nano-dollar."""
    sent = request("POST", path, ("Content-Type", "application/json"), body=json.dumps(body).encode())
    direct, through = await thrice(llama, gateway, sent)
    assert direct.status == 200
    assert changes(direct, through) == []
    usage = said_usage(through.body.content)
    record = await record_of(gateway.admin_url, through.head.value(b"x-tollgate-call-id"))
    assert (record["usage_source"], record["usage"]) == ("provider", usage)
    assert record["cost_nanousd"] == sum(NANO_USD[unit] * count for unit, count in usage.items())
    assert (record["outcome"], record["provider"], record["unpriced"]) == ("completed", "self-hosted", False)
    assert record["model_requested"] == "tiny"
    assert usage["input"] > 0
    if path != "/v1/embeddings":
        assert usage["output"] == 24
        assert usage["cached_input"] > 0, "the prompt cache should have been warm"


async def test_a_stream_that_says_nothing_of_its_usage_is_counted(llama: int, gateway: Any) -> None:
    """Nothing is added to the request to make it say more; its text is counted, and the record says so."""
    sent = request("POST", "/v1/chat/completions", body=json.dumps(CHAT | STREAM).encode())
    direct, through = await thrice(llama, gateway, sent)
    assert changes(direct, through) == []
    assert b'"usage"' not in through.body.content
    record = await record_of(gateway.admin_url, through.head.value(b"x-tollgate-call-id"))
    assert record["usage_source"] == "counted"
    assert record["usage"]["input"] > 0
    assert 0 < record["usage"]["output"] <= 48
    assert record["cost_nanousd"] == sum(NANO_USD[unit] * count for unit, count in record["usage"].items())


OTHERS = {
    "models": request("GET", "/v1/models"),
    "HEAD": request("HEAD", "/v1/models"),
    "count_tokens": request("POST", "/v1/messages/count_tokens", body=json.dumps(MESSAGES).encode()),
    "tokenize, by name": request("POST", "/up/tokenize", body=b'{"content":"hello there"}'),
    "health, by name": request("GET", "/up/health"),
    "bad JSON": request("POST", "/v1/chat/completions", ("Content-Type", "application/json"), body=b'{"model": tiny}'),
    "no messages": request("POST", "/v1/chat/completions", body=b'{"model":"tiny"}'),
    "bad JSON to Anthropic": request("POST", "/v1/messages", body=b"{"),
    "no such path": request("GET", "/v1/nowhere"),
    "no such path, HEAD": request("HEAD", "/v1/nowhere"),
    "OPTIONS": request("OPTIONS", "/v1/chat/completions", ("Origin", "http://other.test")),
    "DELETE": request("DELETE", "/v1/models/tiny"),
}


@pytest.mark.parametrize("sent", OTHERS.values(), ids=OTHERS)
async def test_what_is_not_charged_is_the_same_as_directly(llama: int, gateway: Any, sent: bytes) -> None:
    """Lists, probes and llama.cpp's own errors go through as they are, and cost nothing."""
    direct = await ask(llama, sent.replace(b" /up/", b" /", 1))
    through = await ask(gateway.front_port, sent)
    assert changes(direct, through) == []
    record = await record_of(gateway.admin_url, through.head.value(b"x-tollgate-call-id"))
    assert record["cost_nanousd"] == 0
    assert record["status"] == direct.status
