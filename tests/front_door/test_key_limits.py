"""The limits of a gateway key that a caller might try to get round: networks behind proxies, and models beside the one asked for."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from gateway.admission.keys import hash_of
from tests.front_door.conftest import Serve
from tests.harness.books import CHAT, HAIKU, MESSAGES, MINI, RESPONSES
from tests.harness.gateways import config_for, in_process
from tests.harness.messages import request, response
from tests.harness.raw_client import Answer, ask
from tests.harness.scripted import ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

INSIDE, LIMITED, OPEN = ("tg-" + letter * 32 for letter in "iLo")
KEYS = [
    {"name": "inside", "hash": hash_of(INSIDE), "cidr": ["192.0.2.0/24", "2001:db8::/32"]},
    {
        "name": "limited",
        "hash": hash_of(LIMITED),
        "models": ["gpt-4o-mini", "claude-haiku-*", "whisper-1", "@preset/ours"],
    },
    {"name": "open", "hash": hash_of(OPEN)},
]
OK = response(200, ("Content-Type", "application/json"), body=b'{"object": "chat.completion"}')


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(standing_upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    """Asks for keys, and trusts the proxy at 127.0.0.1."""
    folder = tmp_path_factory.mktemp("limits")
    blocks = {
        "up": {"api_key": "own"},
        "auth": {"mode": "keys"},
        "keys": KEYS,
        "front": {"trusted_proxies": ["127.0.0.0/8"]},
    }
    async with in_process(folder, config_for(folder, standing_upstream, **blocks)) as serving:
        yield serving


async def call(gateway: Any, key: str, body: bytes, *fields: tuple[str, str], path: str = CHAT) -> Answer:
    kind = () if any(name.lower() == "content-type" for name, _ in fields) else (("Content-Type", "application/json"),)
    return await ask(
        gateway.front_port, request("POST", path, ("Authorization", f"Bearer {key}"), *kind, *fields, body=body)
    )


def words(answer: Answer) -> str:
    return str(json.loads(answer.body.content)["error"]["message"])


MINIMAL = json.dumps(MINI).encode()


# -- networks ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([("X-Forwarded-For", "192.0.2.7")], 200),
        ([("X-Forwarded-For", "203.0.113.1, 192.0.2.7, 127.0.0.2")], 200),
        ([("x-forwarded-for", "192.0.2.7, 203.0.113.1")], 403),
        ([("X-Forwarded-For", "192.0.2.7"), ("X-Forwarded-For", "203.0.113.1")], 403),
        ([("Forwarded", 'for="[2001:db8::1]:4711";proto=https')], 200),
        ([("Forwarded", "for=192.0.2.7, for=unknown")], 403),
        ([("Forwarded", "for=192.0.2.7"), ("X-Forwarded-For", "203.0.113.1")], 403),
        ([("X-Forwarded-For", "nonsense")], 403),
        ([("X-Real-IP", "192.0.2.7")], 403),
        ([], 403),
    ],
)
async def test_a_trusted_proxy_tells_where_its_callers_are(
    guarded: Any, upstream: ScriptedUpstream, fields: list[tuple[str, str]], status: int
) -> None:
    """And what it wrote goes on to the upstream as it came."""
    upstream.answer = [OK]
    assert (await call(guarded, INSIDE, MINIMAL, *fields)).status == status
    for seen in upstream.seen:
        sent = [(name.encode(), value.encode()) for name, value in fields]
        assert [each for each in seen.head.fields if b"forwarded" in each[0].lower()] == sent
    assert len(upstream.seen) == (status == 200)


async def test_from_anybody_else_the_fields_are_ignored(
    upstream: ScriptedUpstream, serve: Serve, tmp_path: Path
) -> None:
    """Without trusted proxies, and with others; a reload changes who is trusted."""
    upstream.answer = [OK]
    gateway = await serve(up={"api_key": "own"}, auth={"mode": "keys"}, keys=KEYS)
    field = ("X-Forwarded-For", "192.0.2.7")
    path = tmp_path / "tollgate.yaml"
    found = []
    for trusted in ([], ["10.0.0.0/8"], ["127.0.0.1"], ["10.0.0.0/8"]):
        config = yaml.safe_load(path.read_text())
        config["front"]["trusted_proxies"] = trusted
        path.write_text(yaml.safe_dump(config))
        assert await gateway._reloader.reload()
        found.append((await call(gateway, INSIDE, MINIMAL, field)).status)
    assert found == [403, 403, 200, 403]


# -- models -----------------------------------------------------------------------------------------------------------------

TWICE = [
    b'{"model": "gpt-4o", "model": "gpt-4o-mini", "messages": []}',
    b'{"mod\\u0065l": "gpt-4o", "messages": [], "model": "gpt-4o-mini"}',
    b'{"\\u006D\\u006F\\u0064\\u0065\\u006C": "gpt-4o", "model": "gpt-4o-mini"}',
    b'{"Model": "gpt-4o", "model": "gpt-4o-mini"}',
    b'{"model": "gpt-4o-mini", "MODEL": "gpt-4o"}',
    b'{"model": "gpt-4o-mini", "x": [{"model": 1}], "model" \n: "gpt-4o-mini"}',
]


@pytest.mark.parametrize("body", TWICE)
@pytest.mark.parametrize("path", [CHAT, RESPONSES, MESSAGES, "/up/v1/chat/completions"])
async def test_a_model_that_is_named_twice_is_refused(
    guarded: Any, upstream: ScriptedUpstream, body: bytes, path: str
) -> None:
    """Whichever of the two the provider would take, in the dialect of the route; and only for keys that limit models."""
    upstream.answer = [OK]
    answer = await call(guarded, LIMITED, body, path=path)
    assert answer.status == 400
    assert "names its model more than once" in words(answer)
    assert ("type" in json.loads(answer.body.content)) == (path == MESSAGES)
    assert not upstream.seen
    assert (await call(guarded, OPEN, body, path=path)).status == 200
    assert upstream.seen[0].body.content == body


def with_(**more: Any) -> bytes:
    return json.dumps(MINI | more).encode()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (with_(models=["gpt-4o-mini", "claude-haiku-4-5"], route="fallback"), 200),
        (with_(models=["gpt-4o-mini", "openai/gpt-4o"]), 403),
        (with_(models=[{"id": "gpt-4o"}]), 403),
        (with_(models=7), 403),
        (with_(fallbacks=["gpt-4o"]), 403),
        (with_(preset="ours"), 200),
        (with_(preset="theirs"), 403),
        (with_(tools=[{"type": "advisor", "model": "claude-opus-4"}]), 403),
        (with_(tools=[{"type": "image_generation", "model": "gpt-4o-mini"}]), 200),
        (with_(plugins=[{"id": "web", "settings": {"model": "gpt-4o"}}]), 403),
        (with_(tools=[{"type": "function", "function": {"name": "f", "parameters": {"model": "a"}}}]), 200),
        (with_(messages=[{"role": "user", "content": '{"model": "gpt-4o", "model": "x", "models": ["y"]}'}]), 200),
        (with_(messages=[{"role": "user", "content": "x" * 300_000}], models=["gpt-4o"]), 403),
        (with_(messages=[{"role": "user", "content": "x" * 300_000}], models=["gpt-4o-mini"]), 200),
    ],
)
async def test_models_beside_the_one_that_is_asked_for(
    guarded: Any, upstream: ScriptedUpstream, body: bytes, status: int
) -> None:
    """Fall-backs, presets and tools with models of their own have to be allowed as well; what is said in a call is not looked at."""
    upstream.answer = [OK]
    answer = await call(guarded, LIMITED, body)
    assert answer.status == status
    assert len(upstream.seen) == (status == 200)
    if status == 403:
        assert "beside the one that it asks for" in words(answer)
    assert (await call(guarded, OPEN, body)).status == 200


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json; charset=utf-8", 200),
        ("application/json;charset=UTF-8", 200),
        ("application/vnd.api+json", 200),
        ("application/json; charset=utf-7", 400),
        ("application/x-www-form-urlencoded", 400),
        ("multipart/form-data; boundary=x", 400),
    ],
)
async def test_a_body_that_says_to_be_something_else(
    guarded: Any, upstream: ScriptedUpstream, kind: str, status: int
) -> None:
    """A server that believes it would find other fields in it."""
    upstream.answer = [OK]
    assert (await call(guarded, LIMITED, MINIMAL, ("Content-Type", kind))).status == status
    assert (await call(guarded, OPEN, MINIMAL, ("Content-Type", kind))).status == 200


def form(*fields: tuple[str, str], boundary: str = "b") -> bytes:
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields
    ]
    return ("".join(parts) + f"--{boundary}--\r\n").encode()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (form(("file", "RIFF"), ("model", "whisper-1")), 200),
        (form(("model", "gpt-4o-transcribe"), ("file", "RIFF"), ("model", "whisper-1")), 400),
        (form(("model", "whisper-1"), ("mod\\el", "gpt-4o-transcribe")), 400),
        (form(("model", "whisper-1"), ("file", form(("model", "gpt-4o-transcribe")).decode()), boundary="outer"), 400),
    ],
)
async def test_forms_are_read_in_one_way_or_refused(
    guarded: Any, upstream: ScriptedUpstream, body: bytes, status: int
) -> None:
    """A field twice, a name that only some readers understand, a form within a form under the boundary that the head names."""
    upstream.answer = [OK]
    kind = ("Content-Type", "multipart/form-data; boundary=b")
    assert (await call(guarded, LIMITED, body, kind, path="/v1/audio/transcriptions")).status == status
    assert (await call(guarded, OPEN, body, kind, path="/v1/audio/transcriptions")).status == 200


@pytest.mark.parametrize(
    "query", ["model=gpt-4o-mini&model=gpt-4o", "model=gpt-4o-mini&%6Dodel=gpt-4o", "model=gpt-4o-mini&Deployment=x"]
)
async def test_a_realtime_session_names_its_model_once(guarded: Any, upstream: ScriptedUpstream, query: str) -> None:
    """In its query, however that is spelt."""
    upgrade = (("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="))  # fmt: skip
    upstream.answer = [OK]

    async def dial(text: str) -> int:
        sent = request("GET", f"/v1/realtime?{text}", ("Authorization", f"Bearer {LIMITED}"), *upgrade)
        return (await ask(guarded.front_port, sent)).status

    assert await dial(query) == 400
    assert not upstream.seen
    assert await dial("model=gpt-4o-mini&x=1") == 200


async def test_the_models_of_a_key_hold_for_a_message_as_for_a_chat(guarded: Any, upstream: ScriptedUpstream) -> None:
    """An ordinary call in each dialect is not touched by any of this."""
    upstream.answer = [OK]
    assert (await call(guarded, LIMITED, json.dumps(HAIKU).encode(), path=MESSAGES)).status == 200
    assert upstream.seen[0].body.content == json.dumps(HAIKU).encode()
