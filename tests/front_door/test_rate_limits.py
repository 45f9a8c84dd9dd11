"""Limits on requests, tokens and calls at a time, as apps and operators meet them."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.handle import MOST_WAITING
from tests.front_door.conftest import Serve
from tests.harness.books import CHAT, MINI, look, post, record_after
from tests.harness.gateways import GatewayProcess, config_for, in_process, records
from tests.harness.messages import request, response
from tests.harness.raw_client import Answer, ask, connected
from tests.harness.redis_servers import Server
from tests.harness.scripted import End, ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

GEMINI = "/gemini/v1beta/models/gemini-2.0-flash:generateContent"
SAID = {"model": "gpt-4o-mini", "choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 50}}
Spawn = Callable[..., Awaitable[GatewayProcess]]


def paid(**usage: int) -> bytes:
    """An answer that used so many tokens."""
    body = json.dumps(SAID | ({"usage": usage} if usage else {})).encode()
    return response(200, ("Content-Type", "application/json"), body=body)


async def say(gateway: Any, *fields: tuple[str, str], call: dict[str, Any] = MINI, path: str = CHAT) -> Answer:
    return await ask(gateway.front_port, post(path, call, "", *fields))


def error(answer: Answer) -> dict[str, Any]:
    """The error of a refusal."""
    assert answer.status == 429, answer.body.content
    found: dict[str, Any] = json.loads(answer.body.content)["error"]
    return found


def field(answer: Answer, name: bytes) -> str:
    return (answer.head.value(name) or b"").decode()


@pytest.fixture
def store(either_store: Any) -> dict[str, Any]:
    """The block of the config."""
    block, _ = either_store
    return block | {"lease": "2s"}


async def test_the_first_request_too_many_is_refused_and_told_when_to_come(
    upstream: ScriptedUpstream, serve: Serve, store: Any
) -> None:
    """Status, code, figures and header fields say the same; after the wait there is room."""
    upstream.answer = [paid()]
    gateway = await serve(store=store, limits=[{"scope": "team:*", "requests_per_minute": 120}])
    search = ("X-Tollgate-Team", "search")
    answers = [await say(gateway, search) for _ in range(130)]
    refused = [answer for answer in answers if answer.status == 429]
    assert 120 <= sum(answer.status == 200 for answer in answers) < 130
    assert len(upstream.seen) == 130 - len(refused)
    last = refused[-1]
    told = error(last)
    wait_ms = int(field(last, b"retry-after-ms"))
    assert 0 < wait_ms <= 500
    assert told["message"].startswith(
        "The limit 'team:*' (team:search, requests_per_minute) lets through 120 requests a minute"
    )
    assert {name: told[name] for name in ("type", "code", "limit", "scope", "unit", "allowed", "needed")} == {
        "type": "rate_limit_exceeded",
        "code": "rate_limit_exceeded",
        "limit": "team:*",
        "scope": "team:search",
        "unit": "requests_per_minute",
        "allowed": 120,
        "needed": 1,
    }
    assert told["retry_after_ms"] == wait_ms
    assert (field(last, b"x-should-retry"), field(last, b"retry-after")) == ("true", "1")
    assert field(last, b"ratelimit-policy") == '"team:search/requests_per_minute";q=120;w=60'
    assert field(last, b"ratelimit") == '"team:search/requests_per_minute";r=0;t=1'
    await asyncio.sleep(wait_ms / 1000)
    assert (await say(gateway, search)).status == 200
    assert (await say(gateway, ("X-Tollgate-Team", "other"))).status == 200


async def test_a_refusal_stands_in_the_record_the_metrics_and_the_sums(
    upstream: ScriptedUpstream, serve: Serve
) -> None:
    """Which limit it was, for which scope, in which unit."""
    upstream.answer = [paid()]
    gateway = await serve(limits=[{"scope": "global", "requests_per_minute": 1, "name": "all of us"}])
    await say(gateway)
    record = await record_after(gateway, await say(gateway))
    assert (record["outcome"], record["status"], record["error_type"]) == ("refused", 429, "rate_limit_exceeded")
    assert record["refused_by"] == {"limit": "all of us", "scope": "global", "unit": "requests_per_minute"}
    assert record["cost_nanousd"] == 0
    metrics = (await look(gateway, "/metrics")).decode()
    assert re.search(
        r'^llm_limit_rejections_total\{limit="all of us",scope="global",unit="requests_per_minute"\} 1(\.0)?$',
        metrics,
        re.MULTILINE,
    )
    total = json.loads(await look(gateway, "/api/v1/spend"))["total"]
    assert (total["calls"], total["refused"]) == (2, 1)


@pytest.mark.parametrize(
    ("path", "call", "check"),
    [
        (CHAT, MINI, lambda told: (told["error"]["code"], told["error"]["unit"])),
        (
            "/anthropic/v1/messages",
            {"model": "claude-haiku-4-5", "max_tokens": 5, "messages": MINI["messages"]},
            lambda told: (told["type"], told["error"]["type"], told["error"]["code"], told["error"]["unit"]),
        ),
        (
            GEMINI,
            {"contents": [{"parts": [{"text": "hi"}]}]},
            lambda told: (
                told["error"]["status"],
                told["error"]["details"][0]["reason"],
                told["error"]["details"][0]["metadata"]["unit"],
            ),
        ),
    ],
    ids=["openai", "anthropic", "gemini"],
)
async def test_each_dialect_says_it_in_its_own_words(
    upstream: ScriptedUpstream, serve: Serve, path: str, call: dict[str, Any], check: Callable[[Any], Any]
) -> None:
    """As its SDK reads a limit of its provider's own."""
    upstream.answer = [paid()]
    gateway = await serve(
        limits=[{"scope": "global", "requests_per_minute": 1}],
        upstreams={"gemini": {"base_url": upstream.url, "protocol": "gemini"}},
    )
    await say(gateway, call=call, path=path)
    answer = await say(gateway, call=call, path=path)
    assert answer.status == 429
    assert check(json.loads(answer.body.content)) in (
        ("rate_limit_exceeded", "requests_per_minute"),
        ("error", "rate_limit_error", "rate_limit_exceeded", "requests_per_minute"),
        ("RESOURCE_EXHAUSTED", "RATE_LIMIT_EXCEEDED", "requests_per_minute"),
    )


async def test_tokens_are_counted_by_what_was_used(upstream: ScriptedUpstream, serve: Serve, store: Any) -> None:
    """150 a call, whatever was guessed; once they are used up the wait is that of the tokens that are missing."""
    upstream.answer = [paid()]
    gateway = await serve(store=store, limits=[{"scope": "global", "tokens_per_minute": 1500}])
    let_in = 0
    while (answer := await say(gateway, call=MINI | {"max_tokens": 20})).status == 200:
        let_in += 1
        await record_after(gateway, answer)
    assert 9 <= let_in <= 11
    told = error(answer)
    assert (told["unit"], told["allowed"]) == ("tokens_per_minute", 1500)
    assert field(answer, b"ratelimit-policy") == '"global/tokens_per_minute";q=1500;qu="tokens";w=60'
    assert told["used"] + told["needed"] > 1500
    missing = told["used"] + told["needed"] - 1500
    assert 40 * (missing - 1) <= told["retry_after_ms"] <= 40 * missing  # 25 tokens a second come back


async def test_a_prompt_larger_than_the_whole_limit_is_not_told_to_wait(
    upstream: ScriptedUpstream, serve: Serve
) -> None:
    """And an output maximum that is larger keeps no call out: it is a guess."""
    upstream.answer = [paid()]
    gateway = await serve(limits=[{"scope": "global", "tokens_per_minute": 500}])
    long = MINI | {"messages": [{"role": "user", "content": "word " * 2000}]}
    refused = await say(gateway, call=long)
    told = error(refused)
    assert (field(refused, b"x-should-retry"), field(refused, b"retry-after-ms")) == ("false", "")
    assert told["retry_after_ms"] is None
    assert "waiting does not help" in told["message"]
    assert (await say(gateway, call=MINI | {"max_tokens": 100_000})).status == 200


async def test_one_call_after_the_other_never_meets_a_limit_of_one(
    upstream: ScriptedUpstream, serve: Serve, store: Any
) -> None:
    """A place is free when the answer has been read, although the books are written a moment later."""
    upstream.answer = [paid()]
    gateway = await serve(store=store, limits=[{"scope": "global", "concurrent": 1}])
    async with connected(gateway.front_port) as client:
        for _ in range(20):
            client.writer.write(post(CHAT, MINI))
            assert (await client.answer()).status == 200


async def test_no_more_calls_run_than_may(upstream: ScriptedUpstream, serve: Serve, store: Any) -> None:
    """Thirty at once where five may: five, and the others are told to try again; when those end there is room."""
    go_on = asyncio.Event()
    upstream.answer = [go_on, paid()]
    gateway = await serve(store={**store, "held_wait": "50ms"}, limits=[{"scope": "global", "concurrent": 5}])
    asked = [asyncio.create_task(say(gateway)) for _ in range(30)]
    async with asyncio.timeout(20):
        while sum(each.done() for each in asked) < 25:
            await asyncio.sleep(0.02)
    refused = [each.result() for each in asked if each.done()]
    assert len(upstream.seen) == 5
    for answer in refused:
        told = error(answer)
        assert (told["unit"], told["allowed"], told["used"]) == ("concurrent", 5, 5)
        assert field(answer, b"x-should-retry") == "true"
        assert int(field(answer, b"retry-after-ms")) > 0
        assert field(answer, b"ratelimit-policy") == '"global/concurrent";q=5;qu="concurrent-requests"'
    go_on.set()
    assert {(await each).status for each in asked} == {200, 429}
    assert (await say(gateway)).status == 200


async def test_only_so_many_wait_for_a_place(upstream: ScriptedUpstream, serve: Serve) -> None:
    """Each of them asks the store again and again; the others are told at once to come back. Whoever waits gets its turn."""
    go_on = asyncio.Event()
    upstream.answer = [go_on, paid()]
    gateway = await serve(
        store={"url": "sqlite:///:memory:", "held_wait": "20s"}, limits=[{"scope": "global", "concurrent": 1}]
    )
    asked = [asyncio.create_task(say(gateway)) for _ in range(1 + MOST_WAITING + 20)]
    async with asyncio.timeout(15):
        while sum(each.done() for each in asked) < 20:
            await asyncio.sleep(0.02)
    go_on.set()
    statuses = [answer.status for answer in await asyncio.gather(*asked)]
    assert (statuses.count(200), statuses.count(429)) == (1 + MOST_WAITING, 20)


@pytest.mark.parametrize("ending", ["left", "error", "broken", "refused"])
async def test_a_place_comes_back_however_a_call_ends(
    upstream: ScriptedUpstream, serve: Serve, store: Any, ending: str
) -> None:
    """Five calls that end badly, one after the other, and there is room for one more."""
    upstream.answer = {
        "left": [asyncio.Event()],
        "error": [response(500, body=b"{}")],
        "broken": [b"HTTP/1.1 200 OK\r\ncontent-le", End.CLOSE],
        "refused": [paid()],
    }[ending]
    budgets = [{"scope": "team:poor", "limit_usd": "0.000000001", "window": "total"}]
    patient = store | {
        "held_wait": "10s"
    }  # what a client has left is counted first, and the first count builds a vocabulary
    gateway = await serve(store=patient, limits=[{"scope": "global", "concurrent": 1}], budgets=budgets)
    for number in range(5):
        if ending == "left":
            async with connected(gateway.front_port) as client, asyncio.timeout(10):
                client.writer.write(post(CHAT, MINI))
                while len(upstream.seen) == number:
                    await asyncio.sleep(0.01)
        else:
            answer = await say(gateway, ("X-Tollgate-Team", "poor" if ending == "refused" else "rich"))
            assert answer.status != 200
            assert b"concurrent" not in answer.body.content
    upstream.answer = [paid()]
    assert (await say(gateway)).status == 200


async def test_what_nobody_bills_is_limited_too_and_lists_are_not(upstream: ScriptedUpstream, serve: Serve) -> None:
    """Counting tokens asks something of the provider; a list of models does not count."""
    upstream.answer = [response(200, ("Content-Type", "application/json"), body=b"{}")]
    gateway = await serve(limits=[{"scope": "global", "requests_per_minute": 2}])
    for _ in range(5):
        assert (await ask(gateway.front_port, request("GET", "/v1/models"))).status == 200
    statuses = [(await say(gateway, path="/anthropic/v1/messages/count_tokens")).status for _ in range(3)]
    assert statuses == [200, 200, 429]


async def test_a_reload_changes_limits_for_new_calls(upstream: ScriptedUpstream, serve: Serve, tmp_path: Path) -> None:
    """Calls that run keep what they have."""
    upstream.answer = [paid()]
    gateway = await serve(limits=[{"scope": "global", "requests_per_minute": 1}])
    assert [(await say(gateway)).status for _ in range(2)] == [200, 429]
    path = tmp_path / "tollgate.yaml"
    config = yaml.safe_load(path.read_text())
    for allowed, expected in ((3, [200, 200, 429]), (0, [200] * 5)):
        config["limits"] = [{"scope": "global", "requests_per_minute": allowed, "concurrent": 9}]
        path.write_text(yaml.safe_dump(config))
        assert await gateway._reloader.reload()
        assert [(await say(gateway)).status for _ in expected] == expected


async def test_two_gateways_share_a_limit(upstream: ScriptedUpstream, tmp_path: Path, store: Any) -> None:
    """As many as one would let through."""
    upstream.answer = [paid()]
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    blocks: dict[str, Any] = {"store": store, "limits": [{"scope": "global", "requests_per_minute": 60}]}
    async with (
        in_process(folders[0], config_for(folders[0], upstream, **blocks)) as one,
        in_process(folders[1], config_for(folders[1], upstream, **blocks)) as two,
    ):
        answers = await asyncio.gather(*(say((one, two)[number % 2]) for number in range(100)))
        assert 60 <= sum(answer.status == 200 for answer in answers) <= 64


async def test_a_killed_gateway_gives_its_places_back(upstream: ScriptedUpstream, tmp_path: Path, store: Any) -> None:
    """kill -9 with all places taken: another one has them when the lease is over."""
    blocks: dict[str, Any] = {"store": store | {"held_wait": "0s"}, "limits": [{"scope": "global", "concurrent": 3}]}
    folders = [tmp_path / "doomed", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    doomed = GatewayProcess(folders[0], config_for(folders[0], upstream, **blocks))
    upstream.answer = [asyncio.Event()]
    await doomed.start()
    try:
        async with in_process(folders[1], config_for(folders[1], upstream, **blocks)) as other:
            hanging = [asyncio.create_task(say(doomed)) for _ in range(3)]
            async with asyncio.timeout(15):
                while len(upstream.seen) < 3:
                    await asyncio.sleep(0.02)
            assert error(await say(other))["unit"] == "concurrent"
            doomed.signal(signal.SIGKILL)
            await asyncio.gather(*hanging, return_exceptions=True)
            upstream.answer = [paid()]
            async with asyncio.timeout(30):
                while (await say(other)).status != 200:
                    await asyncio.sleep(0.05)
            lost = [each for each in await records(other.admin_url, 3) if each["outcome"] == "lost"]
            assert len(lost) == 3
    finally:
        await doomed.kill()


@pytest.mark.parametrize(("on_outage", "statuses"), [("closed", {503}), ("open", {200}), ("local", {200, 429})])
async def test_a_store_that_is_away(
    upstream: ScriptedUpstream, serve: Serve, server: Server, tmp_path: Path, on_outage: str, statuses: set[int]
) -> None:
    """Closed: as for budgets. Open: limits let pass. Local: each process holds its own."""
    upstream.answer = [paid()]
    block = {"url": server.tcp_url, "timeout": "2s", "journal": str(tmp_path / "journal"), "on_outage": on_outage}
    gateway = await serve(store=block, limits=[{"scope": "team:a", "requests_per_minute": 5, "concurrent": 1}])
    team = ("X-Tollgate-Team", "a")
    assert (await say(gateway, team)).status == 200
    server.kill()
    async with asyncio.timeout(10):
        while b"\ntollgate_store_up 0" not in await look(gateway, "/metrics"):
            await asyncio.sleep(0.02)
    found = [(await say(gateway, team)).status for _ in range(12)]
    assert set(found) == statuses
    if on_outage == "local":
        assert found[:5] == [200] * 5
    assert (await say(gateway)).status == 200  # whom nobody limits
    server.start()
    async with asyncio.timeout(20):
        while b"\ntollgate_store_up 1" not in await look(gateway, "/metrics"):
            await asyncio.sleep(0.02)
    assert [(await say(gateway, team)).status for _ in range(7)][-1] == 429
