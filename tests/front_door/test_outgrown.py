"""Streams that outgrow their hold: more is set aside while they run, and a budget that says so ends them when there is no room."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.errors import Failure, Kind, Whose
from tests.front_door.conftest import Serve
from tests.harness.books import CHAT, MESSAGES, MINI, SAY, TOLD, budgets_of, correlated, look, post, price, record_after
from tests.harness.messages import chunked
from tests.harness.raw_client import Answer, RawClient, ask, connected
from tests.harness.scripted import Script, ScriptedUpstream, Seen, Wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
ARRAY = HEAD.replace(b"text/event-stream", b"application/json; charset=UTF-8")
END = b"0\r\n\r\n"
DELTA = b'data: {"id":"c","model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":" the"},"finish_reason":null}]}\n\n'
"""One token, and four bytes of text."""
STOP = (
    b'data: {"id":"c","model":"gpt-4o-mini","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"c","model":"gpt-4o-mini","choices":[],"usage":{"prompt_tokens":14,"completion_tokens":%d}}\n\n'
    b"data: [DONE]\n\n"
)
SAID = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" the"}}\n\n'
OPENED = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","type":"message","role":"assistant",'
    b'"model":"claude-haiku-4-5","content":[],"usage":{"input_tokens":14,"output_tokens":1}}}\n\n'
)
PART = b'{"candidates": [{"content": {"parts": [{"text": "%b"}],"role": "model"}}],"modelVersion": "gemini-2.5-flash"}'
GEMINI = "/gemini/v1beta/models/gemini-2.5-flash:streamGenerateContent"
FIRST_HOLD = 1024
"""Tokens of output that are guessed at (``bounds.LIKELY_OUTPUT_TOKENS``)."""


def budget(limit_usd: str, **more: Any) -> dict[str, Any]:
    """One on everything, for ever."""
    return {"scope": "global", "limit_usd": limit_usd, "window": "total"} | more


def endless(event: bytes, head: bytes = HEAD, opening: bytes = b"", batch: int = 10) -> Script:
    """A provider that writes until it is told to stop, some events at a time."""

    async def write(wire: Wire, seen: Seen) -> None:
        while True:
            await wire.send(chunked(event * batch).removesuffix(END))
            await asyncio.sleep(0.001)

    return [head + (chunked(opening).removesuffix(END) if opening else b""), write]


def most(input_bytes: int, tokens: int) -> int:
    """What a call to gpt-4o-mini costs at its dearest, as a priority call."""
    return input_bytes * 250 + tokens * 1000


def said(count: int) -> bytes:
    """A run of deltas in one chunk."""
    return chunked(DELTA * count).removesuffix(END)


@asynccontextmanager
async def stream(gateway: Any, body: dict[str, Any], *fields: tuple[str, str]) -> AsyncIterator[RawClient]:
    """A call whose answer is read by the test."""
    async with connected(gateway.front_port) as client:
        await client.send(post(CHAT, body, "", *fields))
        yield client


async def held(gateway: Any) -> int:
    """Nano-dollars of the budget on everything that are set aside."""
    found: int = (await budgets_of(gateway))["global"]["held_nanousd"]
    return found


async def until(true: Callable[[int], bool], gateway: Any) -> int:
    """What is set aside, once it is as wanted."""
    async with asyncio.timeout(15):
        while not true(found := await held(gateway)):
            await asyncio.sleep(0.005)
    return found


def last_event(answer: Answer) -> bytes:
    """What stands after the last blank line but one."""
    body = answer.body.content.replace(b"\r\n", b"\n")
    assert body.endswith(b"\n\n")
    return body[:-2].rpartition(b"\n\n")[2]


# -- growing ---------------------------------------------------------------------------------------------------------------


async def test_a_hold_grows_while_its_stream_runs(upstream: ScriptedUpstream, serve: Serve) -> None:
    """More is held as more is written; at the end only what it cost is left, and no byte of it was touched."""
    gateway = await serve(budgets=[budget("0.01")])
    gates = [asyncio.Event() for _ in range(3)]
    upstream.answer = [HEAD, said(10), gates[0], said(890), gates[1], said(3500), gates[2], chunked(STOP % 4400)]
    async with stream(gateway, MINI | TOLD) as client:
        before = await until(lambda found: found > 0, gateway)
        assert before == pytest.approx(price("gpt-4o-mini", 0, 0, FIRST_HOLD), rel=0.05)
        gates[0].set()
        grown = await until(lambda found: found > before, gateway)
        gates[1].set()
        assert grown < await until(lambda found: found > grown, gateway)
        gates[2].set()
        answer = await client.answer("POST")
    assert answer.body.content == DELTA * 4400 + STOP % 4400
    assert answer.body.whole
    record = await record_after(gateway, answer)
    assert record["outcome"] == "completed"
    assert record["cost_nanousd"] == price("gpt-4o-mini", 14, 0, 4400)
    balance = (await budgets_of(gateway))["global"]
    assert (balance["spent_nanousd"], balance["held_nanousd"]) == (record["cost_nanousd"], 0)


async def test_a_hold_never_exceeds_what_the_call_can_cost(upstream: ScriptedUpstream, serve: Serve) -> None:
    """However fast the stream is: its output maximum bounds it."""
    gateway = await serve(budgets=[budget("10")])
    gate = asyncio.Event()
    upstream.answer = [HEAD, said(1100), gate, said(100), chunked(STOP % 1200)]
    async with stream(gateway, MINI | TOLD | {"max_tokens": 1200}) as client:
        grown = most(len(json.dumps(MINI | TOLD | {"max_tokens": 1200})), 1200)
        assert await until(lambda found: found >= grown, gateway) == grown
        gate.set()
        answer = await client.answer("POST")
    assert (await record_after(gateway, answer))["cost_nanousd"] <= grown


@pytest.mark.parametrize("mode", ["strict", "soft", "shadow"])
async def test_other_modes_do_not_grow(upstream: ScriptedUpstream, serve: Serve, mode: str) -> None:
    """Strict holds the most from the start; soft and shadow set nothing aside."""
    gateway = await serve(budgets=[budget("10", mode=mode), {"scope": "team:*", "limit_usd": 10, "mode": "strict"}])
    asked = _count_extensions(gateway)
    gate = asyncio.Event()
    upstream.answer = [HEAD, said(900), gate, chunked(STOP % 900)]
    async with stream(gateway, MINI | TOLD) as client:
        await client.see(b" the")
        first = (await budgets_of(gateway)).get("global", {}).get("held_nanousd")
        gate.set()
        answer = await client.answer("POST")
    assert asked == []
    assert first == {"strict": most(len(json.dumps(MINI | TOLD)), 16_384), "soft": 1, "shadow": first}[mode]
    assert (await record_after(gateway, answer))["outcome"] == "completed"


class Asked(list[Any]):
    """Questions to the store: (call id, claims, mark). ``carried_out`` counts those that went through."""

    carried_out = 0


def _count_extensions(gateway: Any, fails: Exception | None = None, gate: asyncio.Event | None = None) -> Asked:
    """Every question of that kind to the store, from now on; each fails, or waits for the gate."""
    asked = Asked()
    extend = gateway._store.extend

    async def note(call_id: str, claims: Any, mark: int | None = None) -> Any:
        asked.append((call_id, tuple(claims), mark))
        if gate is not None:
            await gate.wait()
        if fails is not None:
            raise fails
        asked.carried_out += 1
        return await extend(call_id, claims, mark)

    gateway._store.extend = note
    return asked


async def test_what_is_asked_for_only_grows_and_is_asked_seldom(upstream: ScriptedUpstream, serve: Serve) -> None:
    """One question at a time, the next one when half of the slice was used; an account that nobody limits keeps its hold."""
    gateway = await serve(budgets=[budget("1"), {"scope": "team:a", "limit_usd": 1, "window": "month"}])
    asked = _count_extensions(gateway)
    upstream.answer = [HEAD, *[said(10), 0.0005] * 500, chunked(STOP % 5000)]
    async with stream(gateway, MINI | TOLD, ("X-Tollgate-Team", "a")) as client:
        answer = await client.answer("POST")
    totals = [{claim.amount_nanousd for claim in claims} for _, claims, _ in asked]
    assert all(len(amounts) == 1 for amounts in totals)
    amounts = [each.pop() for each in totals]
    assert amounts == sorted(amounts)
    assert 1 < len(amounts) < 20
    assert {claim.account.scope for _, claims, _ in asked for claim in claims} == {"global", "team:a"}
    assert all(claim.limit_nanousd is not None for _, claims, _ in asked for claim in claims)
    assert (await record_after(gateway, answer))["cost_nanousd"] == price("gpt-4o-mini", 14, 0, 5000)


async def test_what_a_dead_process_costs_grows_with_the_stream(upstream: ScriptedUpstream, serve: Serve) -> None:
    """``lost: estimate``: what was used and a slice, never more than is held."""
    gateway = await serve(budgets=[budget("1", lost="estimate")])
    asked = _count_extensions(gateway)
    upstream.answer = [HEAD, *[said(10), 0.0005] * 200, chunked(STOP % 2000)]
    async with stream(gateway, MINI | TOLD) as client:
        await client.answer("POST")
    assert asked
    assert all(mark is not None and 0 < mark <= claims[0].amount_nanousd for _, claims, mark in asked)


# -- no room ---------------------------------------------------------------------------------------------------------------


async def test_a_stream_that_may_finish_does_whole(upstream: ScriptedUpstream, serve: Serve) -> None:
    """``on_exhausted: finish``: byte for byte, asked about once a slice, and what lies past the limit is counted."""
    gateway = await serve(budgets=[budget("0.001", name="all")])
    asked = _count_extensions(gateway)
    upstream.answer = [HEAD, *[said(10), 0.0005] * 400, chunked(STOP % 4000)]
    async with stream(gateway, MINI | TOLD) as client:
        answer = await client.answer("POST")
    assert answer.body.content == DELTA * 4000 + STOP % 4000
    assert answer.body.whole
    record = await record_after(gateway, answer)
    assert (record["outcome"], record["cost_nanousd"]) == ("completed", price("gpt-4o-mini", 14, 0, 4000))
    assert 1 < len(asked) <= 2 * 4000 / 256
    assert await held(gateway) == 0
    overdraft = record["cost_nanousd"] - 1_000_000
    metrics = (await look(gateway, "/metrics")).decode()
    (line,) = [each for each in metrics.splitlines() if each.startswith("llm_budget_overdraft_usd_total{")]
    assert round(float(line.split()[-1]) * 1e9) == overdraft


CUT: dict[str, tuple[str, dict[str, Any], Script]] = {
    "openai": (CHAT, MINI | {"stream": True}, endless(DELTA)),
    "anthropic": (
        MESSAGES,
        {"model": "claude-haiku-4-5", "messages": SAY, "max_tokens": 9000, "stream": True},
        endless(SAID, opening=OPENED),
    ),
    "gemini": (
        f"{GEMINI}?alt=sse",
        {"contents": [{"parts": [{"text": "Hi"}]}]},
        endless(b"data: " + PART % b" the the" + b"\r\n\r\n"),
    ),
    "gemini as an array": (
        GEMINI,
        {"contents": [{"parts": [{"text": "Hi"}]}]},
        endless(b",\r\n" + PART % b' the [{\\"', ARRAY, b"[" + PART % b" the"),
    ),
}


def error_in(answer: Answer, kind: str) -> dict[str, Any]:
    """The error at the end of a stream that was cut, as each dialect says it."""
    if kind == "gemini as an array":
        found: dict[str, Any] = json.loads(answer.body.content)[-1]
        return found["error"]["details"][0]["metadata"] | {"code": found["error"]["details"][0]["reason"].lower()}
    event = last_event(answer)
    if kind == "anthropic":
        name, _, event = event.partition(b"\n")
        assert name == b"event: error"
    body = json.loads(event.removeprefix(b"data: "))
    if kind == "gemini":
        return body["error"]["details"][0]["metadata"] | {"code": body["error"]["details"][0]["reason"].lower()}
    error: dict[str, Any] = body["error"]
    if kind == "anthropic":
        assert (body["type"], error["type"]) == ("error", "rate_limit_error")
    else:
        assert (error["type"], error["param"]) == ("insufficient_quota", None)
    assert "cut off" in error["message"]
    return error


@pytest.mark.parametrize("kind", CUT)
async def test_a_stream_is_cut_in_its_own_dialect(upstream: ScriptedUpstream, serve: Serve, kind: str) -> None:
    """An error as the SDKs read it, with the figures of a refusal; the connection is closed before the body is whole; the
    provider is told at once; what came until then is billed.
    """
    target, body, script = CUT[kind]
    limit = "0.01" if kind == "anthropic" else "0.004"
    gemini = {"gemini": {"base_url": upstream.url, "protocol": "gemini"}}
    gateway = await serve(budgets=[budget(limit, on_exhausted="cut", name="all")], upstreams=gemini)
    upstream.answer = script
    async with connected(gateway.front_port) as client, asyncio.timeout(20):
        await client.send(post(target, body))
        answer = await client.answer("POST")
        seen = await upstream.request()
        await seen.gone.wait()
    assert not answer.body.whole
    assert b"[DONE]" not in answer.body.content
    error = error_in(answer, kind)
    assert (error["code"], error["budget"], error["scope"], error["window"]) == (
        "budget_exceeded",
        "all",
        "global",
        "total",
    )
    record = await record_after(gateway, answer)
    assert (record["outcome"], record["error_type"], record["status"]) == ("cut", "budget_exceeded", 200)
    assert record["usage_source"] == "counted"
    limit_nanousd = int(float(limit) * 1e9)
    assert 0.5 * limit_nanousd < record["cost_nanousd"]
    balance = (await budgets_of(gateway))["global"]
    assert (balance["spent_nanousd"], balance["held_nanousd"]) == (record["cost_nanousd"], 0)


@pytest.mark.parametrize("batch", [3, 40])
async def test_many_streams_at_once_overshoot_by_what_was_on_its_way(
    upstream: ScriptedUpstream, serve: Serve, batch: int
) -> None:
    """A hard budget that cuts: past the limit lies at most what each stream brought between its last look and its end. Every
    one is told, every record says so, and records and counters agree to the nano-dollar.

    On a machine that is busy with something else a look takes longer, and more is on its way: one round of three must keep the
    bound, each of them all the rest.
    """
    streams, limit = 20, 20_000_000
    on_its_way = 512 // len(DELTA) + 1 + 4 * batch
    teams = [budget("0.02", on_exhausted="cut", scope=f"team:{number}", name=f"of {number}") for number in range(3)]
    gateway = await serve(budgets=teams, store={"held_wait": "0s"})
    upstream.answer = endless(DELTA, batch=batch)
    beyond = []
    for number in range(3):
        spent = await many_streams(gateway, f"{number}", streams)
        assert spent > limit // 2
        beyond.append(spent - limit)
        if beyond[-1] <= streams * price("gpt-4o-mini", 0, 0, on_its_way):
            return
    pytest.fail(f"past the limit lay {beyond}")


async def many_streams(gateway: Any, team: str, streams: int) -> int:
    """At once, until each of them is cut. What they cost, by the records and the counters alike."""
    run = f"many-{team}"
    text = post(CHAT, MINI | {"stream": True}, "", ("X-Correlation-Id", run), ("X-Tollgate-Team", team))
    async with asyncio.timeout(60):
        answers = await asyncio.gather(*[ask(gateway.front_port, text) for _ in range(streams)])
    for answer in answers:
        assert error_in(answer, "openai")["code"] == "budget_exceeded"
        assert not answer.body.whole
    found = await correlated(gateway, run, streams)
    assert {(each["outcome"], each["error_type"]) for each in found} == {("cut", "budget_exceeded")}
    spent: int = sum(each["cost_nanousd"] for each in found)
    balance = (await budgets_of(gateway))[f"team:{team}"]
    assert (balance["spent_nanousd"], balance["held_nanousd"]) == (spent, 0)
    return spent


async def test_a_budget_that_lets_streams_end_does_not_shield_from_one_that_cuts(
    upstream: ScriptedUpstream, serve: Serve
) -> None:
    """The first one has no room from the start of the growth; the other one still gets its question, and cuts."""
    budgets = [budget("0.003", on_exhausted="cut", name="house"), {"scope": "team:a", "limit_usd": "0.001"}]
    gateway = await serve(budgets=budgets)
    upstream.answer = endless(DELTA)
    async with stream(gateway, MINI | {"stream": True}, ("X-Tollgate-Team", "a")) as client, asyncio.timeout(20):
        answer = await client.answer("POST")
    assert error_in(answer, "openai")["budget"] == "house"
    record = await record_after(gateway, answer)
    assert record["budgets"][0] == "house"
    assert record["cost_nanousd"] > 2_000_000


async def test_room_that_others_hold_is_asked_for_until_the_hold_is_used(
    upstream: ScriptedUpstream, serve: Serve
) -> None:
    """Another call stands in the way; it ends, and the stream goes on."""
    gateway = await serve(budgets=[budget("0.002", on_exhausted="cut")])
    gates = [asyncio.Event(), asyncio.Event(), asyncio.Event()]
    asked = _count_extensions(gateway)

    def answer(seen: Seen) -> Script:
        if b"other" in seen.body.content:
            return [gates[0], HEAD, chunked(STOP % 1)]
        return [HEAD, said(700), gates[1], said(250), gates[2], said(1000), chunked(STOP % 1950)]

    upstream.answer = answer
    other = {"messages": [{"role": "user", "content": "other"}]}
    waiting = [asyncio.create_task(ask(gateway.front_port, post(CHAT, MINI | TOLD | other))) for _ in range(2)]
    await upstream.request(1)
    async with stream(gateway, MINI | TOLD) as client:
        await _until(lambda: len(asked) >= 1)
        gates[0].set()
        for each in await asyncio.gather(*waiting):
            await record_after(gateway, each)
        before = len(asked)
        gates[1].set()
        await _until(lambda: len(asked) > before)
        gates[2].set()
        whole = await client.answer("POST")
    assert whole.body.whole
    assert (await record_after(gateway, whole))["outcome"] == "completed"


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not true():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("split", [1, 7, 50])
async def test_the_error_stands_after_a_whole_event(upstream: ScriptedUpstream, serve: Serve, split: int) -> None:
    """However the provider's events were cut into pieces: no half an event is left before the error."""
    gateway = await serve(budgets=[budget("0.001", on_exhausted="cut")])
    whole = DELTA * 10

    async def write(wire: Wire, seen: Seen) -> None:
        at = len(whole) - split
        while True:
            await wire.send(chunked(whole[at:] + whole[:at]).removesuffix(END))
            await asyncio.sleep(0.001)

    upstream.answer = [HEAD, chunked(whole[: len(whole) - split]).removesuffix(END), write]
    async with stream(gateway, MINI | {"stream": True}) as client, asyncio.timeout(20):
        answer = await client.answer("POST")
    events = answer.body.content.split(b"\n\n")
    assert events.pop() == b""
    assert b'"budget_exceeded"' in events.pop()
    assert {event + b"\n\n" for event in events} == {DELTA}


async def test_a_compressed_stream_is_only_broken_off(upstream: ScriptedUpstream, serve: Serve) -> None:
    """No event of ours fits into it."""
    gateway = await serve(budgets=[budget("0.001", on_exhausted="cut")])
    squeeze = zlib.compressobj(wbits=31)

    async def write(wire: Wire, seen: Seen) -> None:
        while True:
            await wire.send(chunked(squeeze.compress(DELTA * 10) + squeeze.flush(zlib.Z_SYNC_FLUSH)).removesuffix(END))
            await asyncio.sleep(0.001)

    upstream.answer = [HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n"), write]
    async with stream(gateway, MINI | {"stream": True}) as client, asyncio.timeout(20):
        answer = await client.answer("POST")
    assert not answer.body.whole
    plain = zlib.decompressobj(wbits=31).decompress(answer.body.content)
    assert plain == DELTA * (len(plain) // len(DELTA))
    record = await record_after(gateway, answer)
    assert (record["outcome"], record["error_type"]) == ("cut", "budget_exceeded")


async def test_a_stream_of_a_told_length_is_only_broken_off(upstream: ScriptedUpstream, serve: Serve) -> None:
    """An event of ours would be taken for the provider's bytes, or make the answer longer than it says."""
    gateway = await serve(budgets=[budget("0.001", on_exhausted="cut")])

    async def write(wire: Wire, seen: Seen) -> None:
        while True:
            await wire.send(DELTA * 10)
            await asyncio.sleep(0.001)

    upstream.answer = [HEAD.replace(b"Transfer-Encoding: chunked", b"Content-Length: 99999999"), write]
    async with stream(gateway, MINI | {"stream": True}) as client, asyncio.timeout(20):
        answer = await client.answer("POST")
    assert not answer.body.whole
    assert answer.body.content == DELTA * (len(answer.body.content) // len(DELTA))
    assert (await record_after(gateway, answer))["outcome"] == "cut"


async def test_a_stream_that_we_asked_usage_for_is_cut_between_events_as_well(
    upstream: ScriptedUpstream, serve: Serve
) -> None:
    """The rewriter holds half an event back: it is never shown."""
    gateway = await serve(budgets=[budget("0.001", on_exhausted="cut")], metering={"stream_usage": "ask"})
    whole = DELTA.replace(b"}\n\n", b',"usage":null}\n\n')

    async def write(wire: Wire, seen: Seen) -> None:
        while True:
            await wire.send(chunked(whole[30:] + whole[:30]).removesuffix(END))
            await asyncio.sleep(0.0002)

    upstream.answer = [HEAD, chunked(whole[:30]).removesuffix(END), write]
    async with stream(gateway, MINI | {"stream": True}) as client, asyncio.timeout(20):
        answer = await client.answer("POST")
    events = answer.body.content.split(b"\n\n")
    assert events.pop() == b""
    assert b'"budget_exceeded"' in events.pop()
    assert {event + b"\n\n" for event in events} == {DELTA}


# -- when it does not go well ----------------------------------------------------------------------------------------------


ENDS = {
    "client leaves": "client_disconnected",
    "client resets": "client_disconnected",
    "upstream ends": "completed",
    "upstream breaks": "upstream_error",
}


@pytest.mark.parametrize("how", ENDS)
async def test_an_end_in_the_middle_of_a_question_leaves_nothing_held(
    upstream: ScriptedUpstream, serve: Serve, how: str
) -> None:
    """The question is given up, whatever ends the call; a late answer changes nothing of the books."""
    gateway = await serve(budgets=[budget("1")])
    gate, on = asyncio.Event(), asyncio.Event()
    asked = _count_extensions(gateway, gate=gate)
    end: Script = [chunked(STOP % 800)] if how == "upstream ends" else [b"junk that is no chunk\r\n"]
    upstream.answer = [HEAD, said(800), on, *end]
    field = ("X-Correlation-Id", how.replace(" ", "-"))
    async with stream(gateway, MINI | TOLD, field) as client:
        await _until(lambda: bool(asked))
        if how == "client leaves":
            await client.close()
        elif how == "client resets":
            client.reset()
        else:
            on.set()
        (record,) = await correlated(gateway, field[1], 1)
    gate.set()
    on.set()
    await asyncio.sleep(0.01)
    assert (len(asked), asked.carried_out) == (1, 0)
    assert record["outcome"] == ENDS[how]
    assert record["cost_nanousd"] > 0
    balance = (await budgets_of(gateway))["global"]
    assert (balance["spent_nanousd"], balance["held_nanousd"]) == (record["cost_nanousd"], 0)


async def test_a_store_that_fails_touches_no_stream(
    upstream: ScriptedUpstream, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line in the log for the call, and the next slice is asked for all the same."""
    gateway = await serve(budgets=[budget("1", on_exhausted="cut")])
    asked = _count_extensions(gateway, fails=Failure(Kind.STORE_UNAVAILABLE, Whose.OURS, "Out to lunch."))
    upstream.answer = [HEAD, *[said(10), 0.0005] * 400, chunked(STOP % 4000)]
    async with stream(gateway, MINI | TOLD) as client:
        answer = await client.answer("POST")
    assert answer.body.content == DELTA * 4000 + STOP % 4000
    assert answer.body.whole
    assert len(asked) > 1
    record = await record_after(gateway, answer)
    assert (record["outcome"], record["cost_nanousd"]) == ("completed", price("gpt-4o-mini", 14, 0, 4000))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["message"] for line in lines if line["level"] != "info"] == [
        f"call {record['call_id']} goes on with the hold that it has: Out to lunch."
    ]


async def test_what_is_read_for_a_client_that_left_ends_with_its_budget_too(
    upstream: ScriptedUpstream, serve: Serve
) -> None:
    """``on_disconnect: drain`` reads to the usage, but not past a budget that cuts."""
    gateway = await serve(
        budgets=[budget("0.001", on_exhausted="cut")], metering={"on_disconnect": "drain", "drain_timeout": "60s"}
    )
    upstream.answer = endless(DELTA)
    async with stream(gateway, MINI | {"stream": True}, ("X-Correlation-Id", "drained")) as client:
        await client.see(b" the")
    seen = await upstream.request()
    async with asyncio.timeout(15):
        await seen.gone.wait()
    (record,) = await correlated(gateway, "drained", 1)
    assert (record["outcome"], record["error_type"]) == ("cut", "budget_exceeded")
    assert await held(gateway) == 0


async def test_what_the_provider_tells_counts_more_than_what_is_seen(upstream: ScriptedUpstream, serve: Serve) -> None:
    """Gemini's thoughts are billed and not written."""
    gemini = {"gemini": {"base_url": upstream.url, "protocol": "gemini"}}
    gateway = await serve(budgets=[budget("1")], upstreams=gemini)
    asked, gate = _count_extensions(gateway), asyncio.Event()
    told = b',"usageMetadata": {"promptTokenCount": 9,"candidatesTokenCount": 1,"thoughtsTokenCount": 5000}}'
    event = b"data: " + (PART % b" the").removesuffix(b"}") + told + b"\r\n\r\n"
    upstream.answer = [HEAD, chunked(event * 40).removesuffix(END), gate, END]
    async with connected(gateway.front_port) as client:
        await client.send(post(f"{GEMINI}?alt=sse", {"contents": [{"parts": [{"text": "Hi"}]}]}))
        await _until(lambda: asked.carried_out > 0)
        assert asked[0][1][0].amount_nanousd >= 5000 * 2500  # $2.50 a million
        gate.set()
        await client.answer("POST")


async def test_a_script_with_longer_characters_is_taken_for_more(upstream: ScriptedUpstream, serve: Serve) -> None:
    """A Chinese character is about a token: four of them are not one."""
    gateway = await serve(budgets=[budget("1")])
    asked, gate = _count_extensions(gateway), asyncio.Event()
    delta = DELTA.replace(b" the", "\N{CJK UNIFIED IDEOGRAPH-6642}".encode() * 4)
    upstream.answer = [HEAD, chunked(delta * 300).removesuffix(END), gate, chunked(STOP % 1200)]
    async with stream(gateway, MINI | TOLD) as client:
        await _until(lambda: asked.carried_out > 0)
        gate.set()
        assert (await client.answer("POST")).body.whole
