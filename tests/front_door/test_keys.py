"""Gateway keys, seen from both sides: who is let in and who is not, and that no gateway key ever reaches a provider."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml
from aiohttp import web

from gateway.admission.keys import hash_of
from gateway.simulator import Simulator
from tests.front_door.conftest import Serve
from tests.harness.books import CHAT, HAIKU, MESSAGES, MINI
from tests.harness.gateways import config_for, in_process, record_of, records
from tests.harness.messages import chunked, request, response
from tests.harness.raw_client import Answer, ask, connected
from tests.harness.scripted import ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORDS = ("open", "search", "limited", "fenced", "expired", "elsewhere", "here", "poor", "rich")
TEXTS = {name: "tg-" + f"{name}0K9"[:8].ljust(8, "x") * 4 for name in WORDS}
UNKNOWN = "tg-" + "Unknown1" * 4
OWN = "sk-of-the-gateway"
GEMINI = "/gemini/v1beta/models/gemini-2.5-flash:generateContent"
SAY = {"contents": [{"parts": [{"text": "Hello"}]}]}
PLACES: dict[str, tuple[str, dict[str, Any], str]] = {
    "openai": (CHAT, MINI, "Authorization"),
    "openai by name": ("/openai/chat/completions", MINI, "Authorization"),
    "anthropic": (MESSAGES, HAIKU, "x-api-key"),
    "anthropic at /v1": ("/v1/messages", HAIKU, "X-Api-Key"),
    "gemini": (GEMINI, SAY, "x-goog-api-key"),
    "unmetered": ("/up/anything/else", MINI, "api-key"),
}


def entry(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "hash": hash_of(TEXTS[name])} | more


KEYS = [
    entry("open"),
    entry("search", team="search", user="ann"),
    entry("limited", models=["gpt-4o*", "claude-*"]),
    entry("fenced", upstreams=["anthropic"]),
    entry("expired", expires="2026-01-01", team="late"),
    entry("elsewhere", cidr=["10.0.0.0/8", "2001:db8::/32"]),
    entry("here", cidr=["10.0.0.0/8", "127.0.0.1"]),
    entry("poor", team="poor"),
    entry("rich"),
]
BUDGETS = [{"scope": "key:poor", "limit_usd": "0.000001"}, {"scope": "key:*", "limit_usd": 5, "window": "month"}]


def blocks(url: str) -> dict[str, Any]:
    """Mode keys, each upstream with a key of its own."""
    return {
        "up": {"api_key": OWN},
        "auth": {"mode": "keys"},
        "keys": KEYS,
        "budgets": BUDGETS,
        "upstreams": {"gemini": {"base_url": url, "protocol": "gemini", "api_key": OWN}},
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(standing_upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    """A gateway that asks for keys."""
    folder = tmp_path_factory.mktemp("guarded")
    config = config_for(folder, standing_upstream, **blocks(standing_upstream.url))
    async with in_process(folder, config | {"front": {"port": 0, "shutdown_grace": "200ms"}}) as serving:
        yield serving


def sent(target: str, body: dict[str, Any], *fields: tuple[str, str]) -> bytes:
    return request("POST", target, *fields, body=json.dumps(body).encode())


def credential(field: str, text: str) -> tuple[str, str]:
    return field, f"Bearer {text}" if field == "Authorization" else text


async def call(gateway: Any, key: str, *fields: tuple[str, str], place: str = "openai", **body: Any) -> Answer:
    """A call with the key of that name."""
    target, asked, field = PLACES[place]
    return await ask(gateway.front_port, sent(target, asked | body, credential(field, TEXTS[key]), *fields))


def message_of(answer: Answer) -> str:
    return str(json.loads(answer.body.content)["error"]["message"])


def code_of(answer: Answer) -> Any:
    """In whatever dialect."""
    error = json.loads(answer.body.content)["error"]
    return error.get("status") or error["type"]


def nobody_asked(upstream: ScriptedUpstream) -> bool:
    return not upstream.seen


OK = response(200, ("Content-Type", "application/json"), body=b'{"object": "chat.completion"}')


# -- let in ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("field", ["Authorization", "x-api-key", "x-goog-api-key", "API-Key"])
async def test_a_key_opens_every_route_and_stays_here(
    guarded: Any, upstream: ScriptedUpstream, place: str, field: str
) -> None:
    """The upstream gets its own key, in its own field, and nothing of the gateway's; the record has the key's name."""
    upstream.answer = [OK]
    target, body, _ = PLACES[place]
    answer = await ask(guarded.front_port, sent(target, body, credential(field, TEXTS["open"]), ("X-Other", "1")))
    assert answer.status == 200
    (seen,) = upstream.seen
    assert TEXTS["open"].encode() not in seen.head.raw + seen.body.content
    values = [seen.head.value(name) for name in (b"authorization", b"x-api-key", b"x-goog-api-key", b"api-key")]
    assert [value.removeprefix(b"Bearer ") for value in values if value] == [OWN.encode()]
    record = await record_of(guarded.admin_url, answer.head.value(b"x-tollgate-call-id"))
    assert (record["key_name"], record["team"], record["status"]) == ("open", "", 200)


@pytest.mark.parametrize(("query", "left"), [
    ("?key=KEY", b""), ("?alt=sse&key=KEY", b"?alt=sse"), ("?key=KEY&a=%2F&&b", b"?a=%2F&&b"), ("?%6Bey=KEY&key=KEY", b""),
])  # fmt: skip
async def test_a_key_in_geminis_query_stays_here_too(
    guarded: Any, upstream: ScriptedUpstream, query: str, left: bytes
) -> None:
    """The rest of the query goes on as it was written."""
    upstream.answer = [OK]
    answer = await ask(guarded.front_port, sent(GEMINI + query.replace("KEY", TEXTS["open"]), SAY))
    assert answer.status == 200
    (seen,) = upstream.seen
    assert seen.target == GEMINI.removeprefix("/gemini").encode() + left
    assert seen.head.value(b"x-goog-api-key") == OWN.encode()
    assert TEXTS["open"].encode() not in seen.head.raw


async def test_a_query_of_another_protocol_is_no_place_for_a_key(guarded: Any, upstream: ScriptedUpstream) -> None:
    """It stays as it is, and is not looked at."""
    assert (await ask(guarded.front_port, sent(f"{CHAT}?key={TEXTS['open']}", MINI))).status == 401
    upstream.answer = [OK]
    answer = await ask(guarded.front_port, sent(f"{CHAT}?key=mine", MINI, credential("Authorization", TEXTS["open"])))
    assert answer.status == 200
    assert upstream.seen[-1].target.endswith(b"?key=mine")


async def test_team_and_user_are_the_keys(guarded: Any, upstream: ScriptedUpstream) -> None:
    """They may be said again, and what the key does not fix may be said."""
    upstream.answer = [OK]
    for fields in ((), (("X-Tollgate-Team", "search"), ("X-Tollgate-User", "ann"), ("X-Tollgate-Agent", "planner"))):
        answer = await call(guarded, "search", *fields)
        record = await record_of(guarded.admin_url, answer.head.value(b"x-tollgate-call-id"))
        assert (record["key_name"], record["team"], record["user"]) == ("search", "search", "ann")
        assert record["agent"] == ("planner" if fields else "")
    answer = await call(guarded, "open", ("X-Tollgate-Team", "mine"))
    assert (await record_of(guarded.admin_url, answer.head.value(b"x-tollgate-call-id")))["team"] == "mine"


async def test_a_key_with_networks_is_good_where_they_are(guarded: Any, upstream: ScriptedUpstream) -> None:
    """By the address of the connection; what a field of the request says of another one counts for nothing."""
    upstream.answer = [OK]
    assert (await call(guarded, "here", ("X-Forwarded-For", "192.0.2.1"))).status == 200
    assert (
        await call(guarded, "elsewhere", ("X-Forwarded-For", "10.0.0.1"), ("Forwarded", "for=10.0.0.1"))
    ).status == 403


async def test_what_costs_nothing_is_open_to_a_key_with_models(guarded: Any, upstream: ScriptedUpstream) -> None:
    """A list of models, a moderation; its own models, whichever dialect names them."""
    upstream.answer = [OK]
    bearer = credential("Authorization", TEXTS["limited"])
    assert (await ask(guarded.front_port, request("GET", "/v1/models", bearer))).status == 200
    assert (await ask(guarded.front_port, sent("/v1/moderations", {"input": "x"}, bearer))).status == 200
    assert (await call(guarded, "limited")).status == 200
    assert (await call(guarded, "limited", place="anthropic")).status == 200
    assert (await call(guarded, "fenced", place="anthropic")).status == 200


# -- kept out -------------------------------------------------------------------------------------------------------------

AUTHENTICATION = {"openai": "authentication_error", "anthropic": "authentication_error", "gemini": "UNAUTHENTICATED"}
PERMISSION = {"openai": "permission_error", "anthropic": "permission_error", "gemini": "PERMISSION_DENIED"}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "text", ["", UNKNOWN, "sk-of-a-provider", TEXTS["open"][:-1], TEXTS["open"] + "0", TEXTS["expired"]]
)
async def test_who_has_no_good_key_is_told_so_and_not_to_come_back(
    guarded: Any, upstream: ScriptedUpstream, place: str, text: str
) -> None:
    """401 in the route's dialect; the upstream hears nothing, the answer repeats nothing of what was sent."""
    target, body, field = PLACES[place]
    fields = (credential(field, text),) if text else ()
    answer = await ask(guarded.front_port, sent(target, body, *fields))
    assert answer.status == 401
    assert code_of(answer) == AUTHENTICATION.get(place.partition(" ")[0], "authentication_error")
    assert answer.head.value(b"x-should-retry") == b"false"
    assert answer.head.value(b"www-authenticate") == b'Bearer realm="tollgate"'
    assert not text or text.encode() not in answer.head.raw + answer.body.content
    assert nobody_asked(upstream)
    record = await record_of(guarded.admin_url, answer.head.value(b"x-tollgate-call-id"))
    assert (record["outcome"], record["error_type"], record["cost_nanousd"]) == ("refused", "authentication_error", 0)
    assert (
        record["key_name"]
        == record["team"].replace("late", "expired")
        == ("expired" if text == TEXTS["expired"] else "")
    )


@pytest.mark.parametrize("place", ["openai", "anthropic", "gemini"])
@pytest.mark.parametrize(("key", "fields", "why"), [
    ("search", (("X-Tollgate-Team", "other"),), "x-tollgate-team"),
    ("search", (("X-Tollgate-User", "bob"),), "x-tollgate-user"),
    ("elsewhere", (), "address"),
])  # fmt: skip
async def test_what_a_key_may_not_do_is_forbidden(
    guarded: Any, upstream: ScriptedUpstream, place: str, key: str, fields: tuple[tuple[str, str], ...], why: str
) -> None:
    """403 in the route's dialect, and the record says whose key it was."""
    answer = await call(guarded, key, *fields, place=place)
    assert (answer.status, code_of(answer)) == (403, PERMISSION[place])
    assert answer.head.value(b"x-should-retry") == b"false"
    assert why in message_of(answer)
    assert nobody_asked(upstream)
    record = await record_of(guarded.admin_url, answer.head.value(b"x-tollgate-call-id"))
    assert (record["key_name"], record["error_type"]) == (key, "permission_error")
    assert record["team"] == ("search" if key == "search" else "")


@pytest.mark.parametrize(("target", "body", "status"), [
    (CHAT, MINI | {"model": "o3"}, 403), ("/v1/messages", HAIKU | {"model": "gpt-5"}, 403), (GEMINI, SAY, 403),
    ("/v1/images/generations", {"prompt": "x"}, 403), ("/v1/fine_tuning/jobs", {"model": "gpt-4o"}, 403),
    ("/v1/batches", {"input_file_id": "f"}, 403), ("/up//v1/./chat/Completions", MINI | {"model": "o3"}, 403),
])  # fmt: skip
async def test_a_model_that_a_key_may_not_use_is_forbidden(
    guarded: Any, upstream: ScriptedUpstream, target: str, body: dict[str, Any], status: int
) -> None:
    """And so is a call that could be about any model."""
    answer = await ask(guarded.front_port, sent(target, body, credential("Authorization", TEXTS["limited"])))
    assert answer.status == status, answer.body.content
    assert "limited" in message_of(answer)
    assert nobody_asked(upstream)


async def test_a_body_that_cannot_be_read_names_no_model(guarded: Any, upstream: ScriptedUpstream) -> None:
    """400: it is the body that is to be changed."""
    bearer = credential("Authorization", TEXTS["limited"])
    answer = await ask(guarded.front_port, request("POST", CHAT, bearer, body=b'{"model": "gpt-4o'))
    assert answer.status == 400
    assert nobody_asked(upstream)


@pytest.mark.parametrize("target", [CHAT, "/openai/v1/chat/completions", "/up/x"])
async def test_an_upstream_that_a_key_may_not_use_is_forbidden(
    guarded: Any, upstream: ScriptedUpstream, target: str
) -> None:
    """By rule or by name."""
    answer = await ask(guarded.front_port, sent(target, MINI, credential("Authorization", TEXTS["fenced"])))
    assert answer.status == 403
    assert "upstream" in message_of(answer)
    assert nobody_asked(upstream)


async def test_the_key_is_looked_at_before_the_body_is_read(guarded: Any, upstream: ScriptedUpstream) -> None:
    """Who has none cannot make the gateway take in anything: the answer comes while the body is still owed."""
    async with connected(guarded.front_port) as client:
        await client.send(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n".encode() + b"{")
        assert (await client.head()).status == 401


# -- WebSocket ------------------------------------------------------------------------------------------------------------


async def test_a_websocket_needs_a_key_as_well(serve: Serve) -> None:
    """Without one there is no upgrade; with one the upstream sees its own."""
    seen: list[str] = []

    async def echo(asked: web.Request) -> web.StreamResponse:
        seen.extend(f"{name}: {value}" for name, value in asked.headers.items())
        socket = web.WebSocketResponse()
        await socket.prepare(asked)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    app = web.Application()
    app.router.add_get("/{path:.*}", echo)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        gateway = await serve(url, **blocks(url))
        place = f"{gateway.front_url}/v1/realtime?model=gpt-4o-realtime-preview"
        async with aiohttp.ClientSession() as session:
            for text, status in (("", 401), (UNKNOWN, 401), (TEXTS["expired"], 401), (TEXTS["fenced"], 403)):
                with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                    await session.ws_connect(place, headers={"Authorization": f"Bearer {text}"} if text else {})
                assert caught.value.status == status
            other = place.replace("gpt-4o", "gpt-9")
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await session.ws_connect(other, headers={"Authorization": f"Bearer {TEXTS['limited']}"})
            assert caught.value.status == 403
            assert seen == []
            for name in ("open", "limited"):
                async with session.ws_connect(place, headers={"Authorization": f"Bearer {TEXTS[name]}"}) as socket:
                    await socket.send_str("hello")
                    assert (await socket.receive_str(timeout=10)) == "hello"
        assert f"Authorization: Bearer {OWN}" in seen
        assert not [line for line in seen if "tg-" in line]
        assert {each["key_name"] for each in await records(gateway.admin_url, 7)} == {
            "",
            "open",
            "limited",
            "expired",
            "fenced",
        }
    finally:
        await runner.cleanup()


# -- budgets --------------------------------------------------------------------------------------------------------------


async def test_a_key_has_budgets_of_its_own(tmp_path: Path) -> None:
    """``key:NAME`` limits one, ``key:*`` each; what one spends is not the other's."""
    async with Simulator() as provider:
        config = config_for(tmp_path, provider.url, **blocks(provider.url))
        async with in_process(tmp_path, config) as gateway:
            refused = await call(gateway, "poor")
            assert refused.status == 429
            assert json.loads(refused.body.content)["error"]["scope"] == "key:poor"
            costs = {}
            for name in ("rich", "search", "rich"):
                answer = await call(gateway, name)
                assert answer.status == 200, answer.body.content
                record = await record_of(gateway.admin_url, answer.head.value(b"x-tollgate-call-id"))
                assert record["cost_nanousd"] > 0
                costs[name] = costs.get(name, 0) + record["cost_nanousd"]
            async with aiohttp.ClientSession() as session, session.get(f"{gateway.admin_url}/api/v1/budgets") as told:
                found = {each["scope"]: each["spent_nanousd"] for each in (await told.json())["budgets"]}
            assert {name: found[f"key:{name}"] for name in costs} == costs


# -- changes --------------------------------------------------------------------------------------------------------------


async def reloaded(gateway: Any, folder: Path, **changes: Any) -> bool:
    """Write the file anew and have it read."""
    path = folder / "tollgate.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))
    return bool(await gateway._reloader.reload())


async def test_a_reload_takes_keys_in_and_out_for_the_next_call(
    upstream: ScriptedUpstream, serve: Serve, tmp_path: Path
) -> None:
    """Revoked: refused. Added: let in. Rotated: both, under one name. A faulty file changes nothing."""
    gateway = await serve(**blocks(upstream.url))
    upstream.answer = [OK]

    async def statuses() -> list[int]:
        return [(await call(gateway, name)).status for name in ("open", "search", "rich")]

    assert await statuses() == [200, 200, 200]
    assert await reloaded(gateway, tmp_path, keys=[entry("search", team="search", user="ann")], budgets=[])
    assert await statuses() == [401, 200, 401]
    assert not await reloaded(gateway, tmp_path, keys=[entry("open"), entry("open")])
    assert await statuses() == [401, 200, 401]
    both = [entry("search"), {"name": "search", "hash": hash_of(TEXTS["rich"])}]
    assert await reloaded(gateway, tmp_path, keys=both)
    assert await statuses() == [401, 200, 200]
    assert {each["key_name"] for each in (await records(gateway.admin_url, 12))[:2]} == {"search"}
    assert await reloaded(gateway, tmp_path, keys=[], auth={"mode": "passthrough"})
    assert await statuses() == [200, 200, 200]
    assert await reloaded(gateway, tmp_path, keys=[], auth={"mode": "keys"})
    assert await statuses() == [401, 401, 401]


async def test_a_call_in_flight_goes_on_when_its_key_is_revoked(
    upstream: ScriptedUpstream, serve: Serve, tmp_path: Path
) -> None:
    """To its end, and into the books under the key's name; the next one on the same connection is refused."""
    gateway = await serve(**blocks(upstream.url))
    go_on = asyncio.Event()
    head = response(200, ("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked"), body=None)
    first, second = b'data: {"choices":[]}\n\n', b"data: [DONE]\n\n"
    upstream.answer = [head, b"%x\r\n%b\r\n" % (len(first), first), go_on, chunked(second)]
    bearer = credential("Authorization", TEXTS["open"])
    async with connected(gateway.front_port) as client:
        await client.send(sent(CHAT, MINI | {"stream": True}, bearer))
        await client.see(first)
        assert await reloaded(gateway, tmp_path, keys=[])
        go_on.set()
        answer = await client.answer("POST")
        assert (answer.body.content, answer.body.whole) == (first + second, True)
        assert (await client.ask(sent(CHAT, MINI, bearer))).status == 401
    record = await record_of(gateway.admin_url, answer.head.value(b"x-tollgate-call-id"))
    assert (record["key_name"], record["outcome"]) == ("open", "completed")


async def test_a_key_expires_while_the_gateway_runs(upstream: ScriptedUpstream, serve: Serve) -> None:
    """No reload is needed: each call is held against its own time."""
    upstream.answer = [OK]
    expires = int(time.time()) + 3
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires))
    gateway = await serve(**blocks(upstream.url) | {"keys": [entry("open", expires=moment)]})
    statuses = []
    async with asyncio.timeout(15):
        while not statuses or statuses[-1] != 401:
            before = time.time()
            statuses.append((await call(gateway, "open")).status)
            assert statuses[-1] == 401 or before < expires
            assert statuses[-1] == 200 or time.time() >= expires
            await asyncio.sleep(0.05)
    assert set(statuses) == {200, 401}


async def test_without_the_mode_no_key_is_asked_for(
    upstream: ScriptedUpstream, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    """Keys alone do not close the door: what callers send goes on as ever, and the log says so."""
    gateway = await serve(keys=KEYS)
    upstream.answer = [OK]
    answer = await ask(gateway.front_port, sent(CHAT, MINI, ("Authorization", "Bearer sk-of-the-app")))
    assert answer.status == 200
    assert upstream.seen[-1].head.value(b"authorization") == b"Bearer sk-of-the-app"
    assert "auth.mode is passthrough" in "".join(capsys.readouterr())
