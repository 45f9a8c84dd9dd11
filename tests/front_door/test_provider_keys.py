"""Several keys of a provider for one upstream, seen from both sides: which call goes with which, and what each answer changes."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from tests.front_door.conftest import Serve
from tests.harness.books import CHAT, HAIKU, MESSAGES, MINI, RESPONSES, look, post, record_after
from tests.harness.gateways import records
from tests.harness.messages import request, response
from tests.harness.raw_client import Answer, ask
from tests.harness.scripted import ScriptedUpstream, Seen
from tests.harness.webhooks import Receiver

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = ("Content-Type", "application/json")
OK = response(200, JSON, body=b'{"object": "chat.completion"}')
KEYS = [{"name": "eu", "api_key": "sk-eu", "weight": 3}, {"name": "us", "api_key": "sk-us"}]
ALIKE = [{"name": name, "api_key": f"sk-{name}"} for name in ("a", "b", "c")]


class Clock:
    """Turned by the test."""

    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


def shown(seen: Seen) -> str:
    """The key that the upstream was shown: once, whatever the field."""
    (found,) = [
        value.removeprefix(b"Bearer ").decode()
        for name, value in seen.head.fields
        if name.lower() in (b"authorization", b"x-api-key", b"x-goog-api-key", b"api-key")
    ]
    return found


def said(**by_key: bytes) -> Callable[[Seen], list[bytes]]:
    """An upstream that answers by the key that it is shown."""
    return lambda seen: [by_key.get(shown(seen).removeprefix("sk-"), OK)]


async def keyed(serve: Serve, keys: list[dict[str, Any]], **blocks: Any) -> tuple[Any, Clock]:
    """A gateway whose upstreams have these keys, on a clock of the test's."""
    gateway, clock = await serve(up={"api_keys": keys}, **blocks), Clock()
    for pool in gateway.snapshot.pools.values():
        pool.keys.clock = clock
    return gateway, clock


async def calls(gateway: Any, count: int, path: str = CHAT, body: dict[str, Any] = MINI) -> list[Answer]:
    return [
        await ask(gateway.front_port, post(path, body, "", ("Authorization", "Bearer of-the-app")))
        for _ in range(count)
    ]


async def standing(gateway: Any, name: str = "openai") -> dict[str, dict[str, Any]]:
    """What the admin listener tells of an upstream's keys."""
    (found,) = [
        each for each in json.loads(await look(gateway, "/api/v1/upstreams"))["upstreams"] if each["name"] == name
    ]
    return {each["name"]: each for each in found["provider_keys"]}


async def states(gateway: Any) -> dict[str, str]:
    return {name: each["state"] for name, each in (await standing(gateway)).items()}


async def counted(gateway: Any) -> dict[tuple[str, str, str], float]:
    text = (await look(gateway, "/metrics")).decode()
    found = re.findall(
        r'^tollgate_provider_key_calls_total\{outcome="(.+?)",provider_key="(.+?)",upstream="(.+?)"\} (\S+)$',
        text,
        re.MULTILINE,
    )
    return {(upstream, key, outcome): float(value) for outcome, key, upstream, value in found}


async def reloaded(gateway: Any, folder: Path, keys: list[dict[str, Any]]) -> bool:
    path = folder / "tollgate.yaml"
    config = yaml.safe_load(path.read_text())
    for upstream in config["upstreams"].values():
        if upstream is not None:
            upstream["api_keys"] = keys
    path.write_text(yaml.safe_dump(config))
    return bool(await gateway._reloader.reload())


async def test_calls_are_spread_by_weight_and_recorded(upstream: ScriptedUpstream, serve: Serve) -> None:
    """Three to one, exactly and mixed; which key it was stands in the record, the metrics and nowhere the key itself."""
    upstream.answer = [OK]
    gateway, _ = await keyed(serve, KEYS)
    answers = await calls(gateway, 12)
    assert [shown(each) for each in upstream.seen] == ["sk-eu", "sk-eu", "sk-us", "sk-eu"] * 3
    told = [(await record_after(gateway, each))["provider_key"] for each in answers]
    assert told == ["eu", "eu", "us", "eu"] * 3
    assert await counted(gateway) == {("openai", "eu", "ok"): 9, ("openai", "us", "ok"): 3}
    config = (await look(gateway, "/api/v1/config")).decode()
    assert '"eu"' in config
    assert "sk-" not in config


async def test_each_upstream_has_turns_of_its_own(upstream: ScriptedUpstream, serve: Serve) -> None:
    """And the field is that of its protocol."""
    upstream.answer = [OK]
    gateway, _ = await keyed(serve, ALIKE)
    await calls(gateway, 2)
    await calls(gateway, 2, MESSAGES, HAIKU)
    assert [shown(each) for each in upstream.seen] == ["sk-a", "sk-b", "sk-a", "sk-b"]
    assert [each.head.value(b"x-api-key") for each in upstream.seen] == [None, None, b"sk-a", b"sk-b"]


async def test_with_one_key_nothing_is_told_of_keys(upstream: ScriptedUpstream, serve: Serve) -> None:
    """As ever: no metric, no field in the record but an empty one, no list."""
    upstream.answer = [response(401, JSON, body=b"{}")]
    gateway = await serve(up={"api_key": "sk-one"})
    answers = await calls(gateway, 2)
    assert [shown(each) for each in upstream.seen] == ["sk-one"] * 2
    assert (await record_after(gateway, answers[0]))["provider_key"] == ""
    assert (await counted(gateway), await standing(gateway)) == ({}, {})
    assert gateway.snapshot.pools["openai"].keys is None


LIMITED = response(429, JSON, ("Retry-After", "7"), ("X-Odd", "kept"), body=b'{"error": {"message": "slow down"}}')


async def test_a_429_sets_its_key_aside_for_as_long_as_it_says(upstream: ScriptedUpstream, serve: Serve) -> None:
    """The answer itself goes to the client as it came; nothing is sent a second time; the calls after it have the other keys."""
    upstream.answer = said(b=LIMITED)
    gateway, clock = await keyed(serve, ALIKE)
    answers = await calls(gateway, 8)
    assert [each.status for each in answers] == [200, 429] + [200] * 6
    assert answers[1].body.content == b'{"error": {"message": "slow down"}}'
    assert (answers[1].head.value(b"retry-after"), answers[1].head.value(b"x-odd")) == (b"7", b"kept")
    assert Counter(shown(each) for each in upstream.seen) == {"sk-a": 4, "sk-b": 1, "sk-c": 3}
    told = await standing(gateway)
    assert [each["state"] for each in told.values()] == ["ready", "rate_limited", "ready"]
    assert told["b"]["until"].endswith("Z")
    assert told["a"]["until"] is None
    await records(gateway.admin_url, len(answers))
    text = (await look(gateway, "/metrics")).decode()
    assert 'tollgate_provider_keys_set_aside{upstream="openai"} 1' in text
    assert (await counted(gateway))["openai", "b", "rate_limited"] == 1
    upstream.answer = [OK]
    clock.now += 7.1
    await calls(gateway, 3)
    assert [shown(each) for each in upstream.seen[-3:]] == ["sk-a", "sk-b", "sk-c"]
    assert set((await states(gateway)).values()) == {"ready"}


async def test_a_401_sets_its_key_aside_and_is_told(
    upstream: ScriptedUpstream, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    """For five minutes; with a line in the log and an event for who asked for those of upstreams."""
    refused = response(401, JSON, body=b'{"error": {"message": "Incorrect API key provided"}}')
    upstream.answer = said(a=refused)
    async with Receiver() as receiver:
        hook = {"url": receiver.url, "kind": "generic", "on": ["upstream"]}
        gateway, clock = await keyed(serve, ALIKE, alerts={"webhooks": [hook]})
        assert [each.status for each in await calls(gateway, 6)] == [401] + [200] * 5
        (event,) = await receiver.until(1)
    assert event.json["data"]["key"] == "provider_key/openai/a"
    assert event.json["data"]["facts"] == {"upstream": "openai", "provider_key": "a", "status": "401"}
    assert "sk-a" not in event.body.decode()
    assert "does not take the key 'a' (401)" in "".join(capsys.readouterr())
    assert await states(gateway) == {"a": "rejected", "b": "ready", "c": "ready"}
    clock.now += 299
    assert [each.status for each in await calls(gateway, 2)] == [200, 200]
    clock.now += 2
    assert [each.status for each in await calls(gateway, 2)] == [401, 200]


async def test_a_403_may_be_about_one_call(upstream: ScriptedUpstream, serve: Serve) -> None:
    """A model that this account may not use takes no key away from the others, unless nothing else comes of it."""
    upstream.answer = [response(403, JSON, body=b"{}")]
    gateway, _ = await keyed(serve, ALIKE)
    await calls(gateway, 6)
    assert set((await states(gateway)).values()) == {"ready"}
    await calls(gateway, 3)
    assert set((await states(gateway)).values()) == {"rejected"}


async def test_no_call_is_refused_for_want_of_a_key(upstream: ScriptedUpstream, serve: Serve) -> None:
    """All are set aside: the one whose time is up first is asked, and its answer is the provider's own."""
    waits = {"a": b"30", "b": b"10", "c": b"20"}
    upstream.answer = said(
        **{name: response(429, JSON, ("Retry-After", wait.decode()), body=wait) for name, wait in waits.items()}
    )
    gateway, _ = await keyed(serve, ALIKE)
    answers = await calls(gateway, 6)
    assert [each.status for each in answers] == [429] * 6
    assert [each.body.content for each in answers] == [b"30", b"10", b"20", b"10", b"10", b"10"]
    assert {(await record_after(gateway, each))["outcome"] for each in answers} == {"upstream_error"}


FILE = {"model": "gpt-4o-mini", "input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]}
IMAGE = {"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "file_1"}}]}
SPREAD: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (CHAT, MINI),
    "chat that says that it is not stored": (CHAT, MINI | {"store": False}),
    "chat that speaks of files": (
        CHAT,
        MINI | {"messages": [{"role": "user", "content": 'a "file_id" and "store": true'}]},
    ),
    "responses that are not stored": (RESPONSES, {"model": "gpt-4o-mini", "input": "a", "store": False}),
    "messages": (MESSAGES, HAIKU),
    "embeddings": ("/v1/embeddings", {"model": "text-embedding-3-small", "input": "a"}),
    "images": ("/v1/images/generations", {"model": "gpt-image-1", "prompt": "a"}),
    "speech": ("/v1/audio/speech", {"model": "tts-1", "input": "a"}),
    "moderations": ("/v1/moderations", {"input": "a"}),
}
KEPT: dict[str, tuple[str, dict[str, Any]]] = {
    "a response, which is stored unless it says not to be": (RESPONSES, {"model": "gpt-4o-mini", "input": "a"}),
    "one that goes on with another": (
        RESPONSES,
        {"model": "m", "input": "a", "store": False, "previous_response_id": "r"},
    ),
    "one of a conversation": (RESPONSES, {"model": "m", "input": "a", "store": False, "conversation": "c"}),
    "one with a file": (RESPONSES, FILE | {"store": False}),
    "one with reasoning that only its account can read": (
        RESPONSES,
        {"model": "m", "input": "a", "store": False, "include": ["reasoning.encrypted_content"]},
    ),
    "a chat that is stored": (CHAT, MINI | {"store": True}),
    "a chat with a model of the account's own": (CHAT, MINI | {"model": "ft:gpt-4o:us::1"}),
    "a chat whose answers are spoken": (CHAT, MINI | {"model": "gpt-4o-audio-preview"}),
    "a message with an image that was uploaded": (MESSAGES, HAIKU | {"messages": [IMAGE]}),
    "a message within a container": (MESSAGES, HAIKU | {"container": "c"}),
    "a batch": ("/v1/batches", {"input_file_id": "file-1"}),
    "fine-tuning": ("/v1/fine_tuning/jobs", {"model": "gpt-4o-mini", "training_file": "f"}),
    "assistants": ("/v1/threads/t/runs", {"assistant_id": "a"}),
    "a realtime session's secret": ("/v1/realtime/client_secrets", {"session": {}}),
    "what nobody knows": ("/v1/brand/new", {"model": "m"}),
}


@pytest.mark.parametrize("place", SPREAD)
async def test_what_stands_alone_is_spread(upstream: ScriptedUpstream, serve: Serve, place: str) -> None:
    """Each key has its turn."""
    upstream.answer = [OK]
    gateway, _ = await keyed(serve, ALIKE)
    await calls(gateway, 3, *SPREAD[place])
    assert [shown(each) for each in upstream.seen] == ["sk-a", "sk-b", "sk-c"]


@pytest.mark.parametrize("place", KEPT)
async def test_what_lives_in_one_account_goes_with_the_first_key(
    upstream: ScriptedUpstream, serve: Serve, place: str
) -> None:
    """Whatever is made with one key must be asked for with it; and the turns of other calls go on as if these were none."""
    upstream.answer = [OK]
    gateway, _ = await keyed(serve, ALIKE)
    await calls(gateway, 1)
    answers = await calls(gateway, 3, *KEPT[place])
    await calls(gateway, 1)
    openai = [shown(each) for each in upstream.seen if each.head.value(b"authorization")]
    of_anthropic = KEPT[place][0] == MESSAGES
    assert openai == (["sk-a", "sk-b"] if of_anthropic else ["sk-a"] * 4 + ["sk-b"])
    assert {shown(each) for each in upstream.seen[1:4]} == {"sk-a"}
    assert {(await record_after(gateway, each))["provider_key"] for each in answers} == {"a"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/responses/resp_1"),
        ("DELETE", "/v1/files/file-1"),
        ("GET", "/v1/batches/b"),
        ("GET", "/v1/models"),
        ("GET", "/anthropic/v1/messages/batches/b/results"),
    ],
)
async def test_what_is_asked_for_by_its_id_is_asked_for_with_the_first_key(
    upstream: ScriptedUpstream, serve: Serve, method: str, path: str
) -> None:
    """Even where that key is set aside: another one would not find it."""
    upstream.answer = said(a=response(401, JSON, body=b"{}"))
    gateway, _ = await keyed(serve, ALIKE)
    for _ in range(3):
        assert (await ask(gateway.front_port, request(method, path))).status == 401
    assert [shown(each) for each in upstream.seen] == ["sk-a"] * 3
    assert (await states(gateway))["a"] == ("rejected" if path.startswith("/v1/") else "ready")


async def test_a_limit_of_batches_is_none_of_chats(upstream: ScriptedUpstream, serve: Serve) -> None:
    """What must go with the first key, and is refused there, takes it no turn away; three refusals in a row do."""
    upstream.answer = [LIMITED]
    gateway, _ = await keyed(serve, ALIKE)
    await calls(gateway, 4, *KEPT["a batch"])
    assert set((await states(gateway)).values()) == {"ready"}


async def test_an_upload_that_is_passed_on_unread_goes_with_the_first_key(
    upstream: ScriptedUpstream, serve: Serve
) -> None:
    """A file of more than arrives at once."""
    upstream.answer = [OK]
    gateway, _ = await keyed(serve, ALIKE)
    for _ in range(2):
        sent = request("POST", "/v1/files", ("Content-Type", "multipart/form-data; boundary=b"), body=b"x" * 3_000_000)
        assert (await ask(gateway.front_port, sent)).status == 200
    assert [shown(each) for each in upstream.seen] == ["sk-a"] * 2


async def test_a_realtime_session_goes_with_the_first_key(serve: Serve) -> None:
    """Another connection may join it."""
    import aiohttp  # noqa: PLC0415 - the one test that needs it

    seen: list[str] = []

    async def answer(asked: web.Request) -> web.StreamResponse:
        seen.append(asked.headers["Authorization"])
        socket = web.WebSocketResponse()
        await socket.prepare(asked)
        await socket.close()
        return socket

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        gateway = await serve(f"http://127.0.0.1:{port}", up={"api_keys": ALIKE})
        async with aiohttp.ClientSession() as client:
            for _ in range(2):
                async with client.ws_connect(f"{gateway.front_url}/v1/realtime?model=gpt-realtime") as socket:
                    await socket.receive()
        assert seen == ["Bearer sk-a"] * 2
        assert {each["provider_key"] for each in await records(gateway.admin_url, 2)} == {"a"}
    finally:
        await runner.cleanup()


async def test_a_reload_keeps_what_is_known_of_keys_that_stay(
    upstream: ScriptedUpstream, serve: Serve, tmp_path: Path
) -> None:
    """A key that is changed begins anew, and so does one that comes in; the others are where they were, connections or not."""
    upstream.answer = said(a=response(401, JSON, body=b"{}"), b=LIMITED)
    gateway, clock = await keyed(serve, ALIKE)
    await calls(gateway, 2)
    assert await states(gateway) == {"a": "rejected", "b": "rate_limited", "c": "ready"}
    more = [*ALIKE, {"name": "d", "api_key": "sk-d", "weight": 2}]
    assert await reloaded(gateway, tmp_path, more)
    assert await states(gateway) == {"a": "rejected", "b": "rate_limited", "c": "ready", "d": "ready"}
    upstream.forget()
    upstream.answer = [OK]
    await calls(gateway, 3)
    assert sorted(shown(each) for each in upstream.seen) == ["sk-c", "sk-d", "sk-d"]
    assert await reloaded(gateway, tmp_path, [{"name": "a", "api_key": "sk-new"}, *more[1:]])
    assert await states(gateway) == {"a": "ready", "b": "rate_limited", "c": "ready", "d": "ready"}
    clock.now += 8
    assert set((await states(gateway)).values()) == {"ready"}
    assert not await reloaded(gateway, tmp_path, [*more, more[0]])
    assert len(await states(gateway)) == 4


async def test_nothing_but_the_credential_is_another(upstream: ScriptedUpstream, serve: Serve) -> None:
    """Byte for byte the request that one key would have sent, and the answer that came."""
    upstream.answer = [OK]
    sent = post(
        CHAT,
        MINI,
        "",
        ("Authorization", "Bearer of-the-app"),
        ("X-Odd", "1"),
        ("x-odd", "2"),
        ("X-Forwarded-For", "192.0.2.1"),
    )
    one = await serve(up={"api_key": "sk-a"})
    first = await ask(one.front_port, sent)
    several, _ = await keyed(serve, ALIKE)
    second = await ask(several.front_port, sent)
    assert upstream.seen[0].head.raw == upstream.seen[1].head.raw
    assert upstream.seen[0].body.content == upstream.seen[1].body.content
    ours = (b"x-tollgate-call-id", b"x-correlation-id")
    assert [each for each in first.head.fields if each[0] not in ours] == [
        each for each in second.head.fields if each[0] not in ours
    ]


async def test_several_keys_are_keys_where_gateway_keys_are_asked_for(upstream: ScriptedUpstream, serve: Serve) -> None:
    """An upstream with api_keys has a key of its own."""
    gateway = await serve(up={"api_keys": KEYS}, auth={"mode": "keys"}, keys=[])
    assert (await calls(gateway, 1))[0].status == 401
    assert not upstream.seen
