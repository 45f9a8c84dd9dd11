"""Money: what a call cost is the same in its record, its headers, the budgets, the metrics and the provider's own books."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from gateway.simulator import Simulator
from tests.front_door.conftest import Serve
from tests.harness.books import (
    CALLS,
    CHAT,
    MESSAGES,
    MINI,
    TOLD,
    bill,
    budgets_of,
    look,
    post,
    price,
    record_after,
    until_held,
)
from tests.harness.gateways import config_for, in_process, record_of
from tests.harness.messages import response
from tests.harness.raw_client import ask, connected
from tests.harness.scripted import ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
BUDGET = {"scope": "global", "limit_usd": 1, "window": "total"}
EVENT = b'data: {"model":"gpt-4o-mini","choices":[{"delta":{"content":" word"}}]}\n\n'
USAGE = b'data: {"model":"gpt-4o-mini","choices":[],"usage":{"prompt_tokens":11,"completion_tokens":5,"total_tokens":16}}\n\n'
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


def chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[Simulator]:
    """It keeps a ledger of what it delivered."""
    async with Simulator() as simulator:
        yield simulator


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def paid(provider: Simulator, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    """A gateway before the provider, with one budget over everything."""
    folder = tmp_path_factory.mktemp("paid")
    async with in_process(folder, config_for(folder, provider.url, budgets=[BUDGET])) as serving:
        yield serving


# -- one call -------------------------------------------------------------------------------------------------------------


@each_call
async def test_a_call_costs_what_its_provider_bills(
    provider: Simulator, paid: Any, call: tuple[str, dict[str, Any], str]
) -> None:
    """Usage comes from the provider, in units that do not overlap, and is priced to the nano-dollar."""
    answer = await ask(paid.front_port, post(*call))
    record, billed = await record_after(paid, answer), provider.ledger[-1]
    assert (answer.status, record["usage_source"], record["outcome"]) == (200, "provider", "completed")
    assert record["cost_nanousd"] == bill(billed) > 0
    assert record["usage"] == {
        unit: count
        for unit, count in {
            "input": billed.input - billed.cached,
            "cached_input": billed.cached,
            "output": billed.output - billed.reasoning,
            "reasoning": billed.reasoning,
        }.items()
        if count
    }
    assert record["model_served"] == call[1]["model"]
    assert record["price_rows"]
    assert record["pricebook"]


@each_call
async def test_the_headers_say_what_the_record_says(paid: Any, call: tuple[str, dict[str, Any], str]) -> None:
    """Cost, tokens, source and what is left of the budget; a stream, whose end nobody knows yet, promises none of it."""
    answer = await ask(paid.front_port, post(*call))
    record, budgets = await record_after(paid, answer), await budgets_of(paid)
    names = ("cost-usd", "tokens", "usage", "budget-remaining-usd")
    told = {name: answer.head.value(f"x-tollgate-{name}".encode()) for name in names}
    if call[1].get("stream"):
        assert not any(told.values())
        return
    usage = {"input": 0, "cached_input": 0, "output": 0, "reasoning": 0} | record["usage"]
    cached = usage["cached_input"]
    tokens = f"in={usage['input'] + cached};out={usage['output'] + usage['reasoning']};cached={cached}"
    assert Decimal((told["cost-usd"] or b"").decode()) * 10**9 == record["cost_nanousd"]
    assert told["tokens"] == tokens.encode()
    assert told["usage"] == record["usage_source"].encode()
    assert Decimal((told["budget-remaining-usd"] or b"").decode()) * 10**9 == budgets["global"]["remaining_nanousd"]


async def test_a_stream_without_usage_is_counted(provider: Simulator, paid: Any) -> None:
    """The words that came are the words that are charged; the prompt to within a token a message of OpenAI's own rule
    (cookbook, "How to count tokens with tiktoken"): 3 for the message, 1 for its role, 8 of text, 3 for the answer.
    """
    answer = await ask(paid.front_port, post(CHAT, MINI | {"stream": True}, "words=40"))
    record = await record_after(paid, answer)
    assert (record["usage_source"], record["usage_method"]) == ("counted", "o200k_base")
    assert record["usage"]["input"] == pytest.approx(15, abs=1)
    assert record["usage"]["output"] == provider.ledger[-1].output == 40
    assert record["cost_nanousd"] == price("gpt-4o-mini", record["usage"]["input"], 0, 40)


async def test_a_compressed_answer_is_read(upstream: ScriptedUpstream, gateway: Any) -> None:
    """The client gets the bytes as they were; the usage inside is found all the same."""
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    body = gzip.compress(json.dumps({"model": "gpt-4o-mini", "choices": [], "usage": usage}).encode())
    upstream.answer = [response(200, ("Content-Type", "application/json"), ("Content-Encoding", "gzip"), body=body)]
    answer = await ask(gateway.front_port, post(CHAT, MINI))
    assert answer.body.content == body
    assert answer.head.value(b"x-tollgate-cost-usd") == b"0.000021"
    record = await record_after(gateway, answer)
    assert (record["usage_source"], record["cost_nanousd"]) == ("provider", price("gpt-4o-mini", 100, 0, 10))


@pytest.mark.parametrize(("served", "billed"), [("gpt-4o-mini", "gpt-4o-mini"), ("nobody-knows-it", "gpt-4o")])
async def test_the_model_that_answered_is_the_one_that_is_priced(
    upstream: ScriptedUpstream, gateway: Any, served: str, billed: str
) -> None:
    """Asked for gpt-4o: what was served decides, and a name that the book does not know leaves what was asked for."""
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    body = json.dumps({"model": served, "choices": [], "usage": usage}).encode()
    upstream.answer = [response(200, ("Content-Type", "application/json"), body=body)]
    answer = await ask(gateway.front_port, post(CHAT, MINI | {"model": "gpt-4o"}))
    record = await record_after(gateway, answer)
    assert (record["model_requested"], record["model_served"]) == ("gpt-4o", served)
    assert record["cost_nanousd"] == price(billed, 100, 0, 10)
    assert not record["unpriced"]


async def test_a_model_without_a_price_is_never_free(provider: Simulator, paid: Any) -> None:
    """``unpriced: estimate`` charges at least what the dearest model that we name costs, and says so."""
    record = await record_after(paid, await ask(paid.front_port, post(CHAT, MINI | {"model": "gpt-99-ultra"})))
    assert record["unpriced"]
    assert record["cost_nanousd"] >= price("gpt-4o", provider.ledger[-1].input, 0, provider.ledger[-1].output)
    assert b'llm_unpriced_total{model="gpt-99-ultra"} 1.0' in await look(paid, "/metrics")


@pytest.mark.parametrize(("target", "kind"), [(CHAT, "invalid_request_error"), (MESSAGES, "permission_error")])
async def test_a_model_without_a_price_can_be_refused(
    provider: Simulator, serve: Serve, target: str, kind: str
) -> None:
    """``unpriced: refuse`` is a 403 in the dialect of the route; the provider hears nothing of it."""
    gateway, before = await serve(provider.url, metering={"unpriced": "refuse"}), len(provider.ledger)
    answer = await ask(gateway.front_port, post(target, MINI | {"model": "gpt-99-ultra"}))
    error = json.loads(answer.body.content)["error"]
    assert (answer.status, error["type"], error["code"]) == (403, kind, "model_unpriced")
    assert answer.head.value(b"x-should-retry") == b"false"
    assert (await record_after(gateway, answer))["cost_nanousd"] == 0
    assert len(provider.ledger) == before


# -- calls that do not end well -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wish", ["status=500", "status=429", "status=400", "cut=0"])
@pytest.mark.parametrize("target", [CHAT, MESSAGES])
async def test_a_call_that_the_provider_failed_costs_nothing_and_gives_its_hold_back(
    provider: Simulator, serve: Serve, target: str, wish: str
) -> None:
    """The money is set aside while the provider thinks, and back when it has failed."""
    gateway = await serve(provider.url, budgets=[BUDGET])
    asking = asyncio.create_task(ask(gateway.front_port, post(target, MINI, f"{wish};delay=0.3")))
    await until_held(gateway)
    record = await record_after(gateway, await asking)
    assert (record["outcome"], record["cost_nanousd"], record["usage"]) == ("upstream_error", 0, {})
    budget = (await budgets_of(gateway))["global"]
    assert (budget["spent_nanousd"], budget["held_nanousd"]) == (0, 0)


@pytest.mark.parametrize("mode", ["cancel", "drain"])
async def test_a_client_that_leaves_pays_for_what_was_delivered(
    upstream: ScriptedUpstream, serve: Serve, mode: str
) -> None:
    """``cancel``: three words came, three are charged, and the upstream is closed. ``drain``: the provider's own count."""
    gateway, gate = await serve(budgets=[BUDGET], metering={"on_disconnect": mode}), asyncio.Event()
    upstream.answer = [STREAM, chunk(EVENT), chunk(EVENT), chunk(EVENT), gate, chunk(EVENT), chunk(USAGE), END]
    async with connected(gateway.front_port) as client:
        await client.send(post(CHAT, MINI | {"stream": True}))
        head = await client.head()
        while client.incoming.buffer.count(EVENT) < 3:
            await client.incoming.fill()
    if mode == "cancel":
        await asyncio.wait_for((await upstream.request()).gone.wait(), 10)
    gate.set()
    record = await record_of(gateway.admin_url, head.value(b"x-tollgate-call-id"))
    assert record["outcome"] == "client_disconnected"
    assert (record["usage_source"], record["usage"]["output"]) == (
        ("counted", 3) if mode == "cancel" else ("provider", 5)
    )
    assert record["cost_nanousd"] == price("gpt-4o-mini", record["usage"]["input"], 0, record["usage"]["output"])
    budget = (await budgets_of(gateway))["global"]
    assert (budget["spent_nanousd"], budget["held_nanousd"]) == (record["cost_nanousd"], 0)


async def test_a_client_that_leaves_an_error_pays_nothing(upstream: ScriptedUpstream, serve: Serve) -> None:
    """The provider had said that it failed; that nobody read it to its end does not make it billable."""
    gateway, never = await serve(budgets=[BUDGET]), asyncio.Event()
    upstream.answer = [b"HTTP/1.1 500 Oops\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\nsorry", never]
    async with connected(gateway.front_port) as client:
        await client.send(post(CHAT, MINI))
        head = await client.head()
    record = await record_of(gateway.admin_url, head.value(b"x-tollgate-call-id"))
    assert (record["outcome"], record["status"], record["cost_nanousd"]) == ("client_disconnected", 500, 0)
    budget = (await budgets_of(gateway))["global"]
    assert (budget["spent_nanousd"], budget["held_nanousd"]) == (0, 0)


async def test_a_provider_that_was_cancelled_stops_writing(provider: Simulator, paid: Any) -> None:
    """What it would bill for an abandoned stream is what we charge, give or take the words on their way."""
    async with connected(paid.front_port) as client:
        await client.send(post(CHAT, MINI | TOLD, "words=2000;pace=0.005"))
        head = await client.head()
        await client.see(b'"content":" ')
    record = await record_of(paid.admin_url, head.value(b"x-tollgate-call-id"))
    billed = provider.ledger[-1]
    await asyncio.sleep(0.1)
    assert not billed.whole
    assert 1 <= record["usage"]["output"] <= billed.output < 2000
