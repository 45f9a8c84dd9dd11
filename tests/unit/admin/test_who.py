"""Who may do what at the admin listener: every route of the table, every kind of token; guesses; requests that another site sends."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from gateway.admin.answers import answer
from gateway.admin.bodies import body_of
from gateway.admin.lockout import LOCKED_S, MOST_WRONG
from gateway.admin.routes import OPEN, OPERATOR, VIEWER, Route, who
from gateway.admin.server import AdminServer
from gateway.simulator import Simulator
from tests.harness.gateways import write
from tests.harness.listener import listener
from tests.harness.messages import request
from tests.harness.raw_client import Answer, ask
from tests.unit.admin.conftest import ADDRESSES, get, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT_TOKEN, LOOKS, CHANGES, LATE = "root-zq", "looks-zq", "changes-zq", "late-zq"
TOKENS = [
    {"name": "grafana", "token": LOOKS},
    {"name": "ines", "token": CHANGES, "role": "operator", "expires": "2999-01-01"},
    {"name": "left", "token": LATE, "role": "operator", "expires": "2020-01-01"},
]
ASKING = {
    "nobody": "",
    "a wrong one": "wrong-zq",
    "late": LATE,
    "viewer": LOOKS,
    "operator": CHANGES,
    "root": ROOT_TOKEN,
}
CHANGE = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {"name": {"type": "string"}, "reason": {"type": "string"}},
}


async def change(request: web.Request) -> web.Response:
    """Says who asked, and what for."""
    return answer({"by": who(request).name, "got": await body_of(request, CHANGE)})


async def take_away(request: web.Request) -> web.Response:
    """The same, where nothing needs to be said."""
    return answer({"by": who(request).name, "got": await body_of(request, {**CHANGE, "required": []})})


THINGS = [
    Route("POST", "/api/v1/of-digits/{name:[0-9]+}", OPERATOR, change, "Changes one of them.", body=CHANGE),
    Route("PUT", "/api/v1/things/{name}", OPERATOR, change, "Changes a thing.", body=CHANGE),
    Route("DELETE", "/api/v1/things/{name}", OPERATOR, take_away, "Takes it away.", body={**CHANGE, "required": []}),
]
TABLE = [
    ("HEAD" if each.media == "text/event-stream" else each.method, each.path, each.role)  # such a stream has no end
    for each in listener(THINGS).api
]
REFUSED = (401, 403, 421, 429)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def several(provider: Simulator, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    """A gateway with a token of every kind, and routes that change something beside its own."""
    folder = tmp_path_factory.mktemp("several")
    async with serving(provider, folder, admin={"port": 0, "token": ROOT_TOKEN, "tokens": TOKENS}) as gateway:
        await _with_things(gateway)
        yield gateway


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nobody(provider: Simulator, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    """One without any token."""
    async with serving(provider, tmp_path_factory.mktemp("nobody")) as gateway:
        await _with_things(gateway)
        yield gateway


async def _with_things(gateway: Any) -> None:
    """The same listener, with routes that change something."""
    first = gateway._admin
    await first.stop()
    gateway._admin = AdminServer(
        "127.0.0.1", 0, first._guard.tokens, gateway._sources(), more=[*gateway._routes(), *THINGS]
    )
    await gateway._admin.start()


def bearer(secret: str) -> tuple[tuple[str, str], ...]:
    return (("Authorization", f"Bearer {secret}"),) if secret else ()


async def do(
    gateway: Any, method: str, path: str, *fields: tuple[str, str], body: Any = None, source: str = ""
) -> Answer:
    """With a body of a change where the method is one."""
    raw = b"" if method in ("GET", "HEAD") else json.dumps(body if body is not None else {"name": "a"}).encode()
    media = (("Content-Type", "application/json"),) if raw and "content-type" not in dict(fields) else ()
    sent = request(method, path, *fields, *media, body=raw, host="localhost")
    return await ask(gateway.admin_port, sent, source=source or next(ADDRESSES))


def of(path: str) -> str:
    return re.sub(r"\{\w+:[^}]*\}", "7", re.sub(r"\{\w+\}", "store", path))


@pytest.mark.parametrize("asking", ASKING)
@pytest.mark.parametrize(("method", "path", "role"), TABLE, ids=lambda each: each)
async def test_every_route_lets_in_whom_its_role_says(
    several: Any, nobody: Any, method: str, path: str, role: str, asking: str
) -> None:
    """With tokens: open to all, else 401, or 403 for a viewer where things are changed. Without: everything, for whoever is here."""
    told = await do(several, method, of(path), *bearer(ASKING[asking]))
    known = asking in ("viewer", "operator", "root")
    if role == OPEN or (known and (role == VIEWER or asking != "viewer")):
        assert told.status not in REFUSED
        assert told.status < 500
    else:
        assert told.status == (403 if known else 401)
        error = json.loads(told.body.content or b"{}").get("error", {})
        assert method == "HEAD" or error["status"] == told.status
        assert method == "HEAD" or ("expired" in error["message"]) == (asking == "late")
        assert "zq" not in str(error)
    assert (await do(nobody, method, of(path), *bearer(ASKING[asking]))).status not in REFUSED


@pytest.mark.parametrize(("method", "path", "role"), TABLE, ids=lambda each: each)
async def test_nothing_of_the_operators_is_reachable_from_the_front(
    several: Any, method: str, path: str, role: str
) -> None:
    """Whatever token is sent there."""
    sent = request(method, of(path), *bearer(CHANGES), host="localhost", body=b"{}" if method != "GET" else b"")
    told = await ask(several.front_port, sent)
    assert told.status == 404
    assert not re.search(rb"config_version|nanousd|llm_requests", told.body.content)


@pytest.mark.parametrize(
    ("asking", "name", "role"),
    [("viewer", "grafana", "viewer"), ("operator", "ines", "operator"), ("root", "admin.token", "operator")],
)
async def test_me_says_whose_token_it_is(several: Any, nobody: Any, asking: str, name: str, role: str) -> None:
    """By name; where there are no tokens it is whoever sits at this machine."""
    told = json.loads((await get(several, "/api/v1/me", *bearer(ASKING[asking]))).body.content)
    assert (told["name"], told["role"], re.fullmatch(r"\d+\.\d+\.\d+", told["version"]) is not None) == (
        name,
        role,
        True,
    )
    told = json.loads((await get(nobody, "/api/v1/me")).body.content)
    assert (told["name"], told["role"]) == ("loopback", "operator")
    changed = await do(several, "PUT", "/api/v1/things/x", *bearer(CHANGES))
    assert json.loads(changed.body.content) == {"by": "ines", "got": {"name": "a"}}


async def test_a_name_in_a_path_is_whatever_was_encoded(several: Any) -> None:
    """Slashes, braces and dots too."""
    for name in ("a%2Fb", "%7Ba%7D", "%2e%2e", "%25", "%E2%98%83"):
        assert (await do(several, "PUT", f"/api/v1/things/{name}", *bearer(CHANGES))).status == 200
        assert (await do(several, "PUT", f"/api/v1/things/{name}", *bearer(LOOKS))).status == 403


async def test_tokens_are_taken_over_while_the_gateway_runs(provider: Simulator, tmp_path: Path) -> None:
    """A new one is let in, one that was taken away is not; without any the listener is open to this machine again."""
    async with serving(provider, tmp_path, admin={"port": 0, "tokens": TOKENS[:1]}) as gateway:

        async def status(secret: str) -> int:
            return (await get(gateway, "/api/v1/me", *bearer(secret), source=next(ADDRESSES))).status

        assert [await status(LOOKS), await status(CHANGES)] == [200, 401]
        config = json.loads((await get(gateway, "/api/v1/config", *bearer(LOOKS))).body.content)["config"]
        assert config["admin"]["tokens"] == [{"name": "grafana", "token": "***", "role": "viewer", "expires": ""}]
        for tokens, right in ((TOKENS[1:2], [401, 200]), ([], [200, 200])):
            write(tmp_path, {**_written(tmp_path), "admin": {"port": 0, "tokens": tokens}})
            assert await gateway._reloader.reload()
            assert [await status(LOOKS), await status(CHANGES)] == right


def _written(folder: Path) -> dict[str, Any]:
    import yaml  # noqa: PLC0415

    found: dict[str, Any] = yaml.safe_load((folder / "tollgate.yaml").read_text())
    return found


# -- guesses --------------------------------------------------------------------------------------------------------------


async def test_who_guesses_is_locked_out_whether_right_or_wrong(several: Any, caplog: pytest.LogCaptureFixture) -> None:
    """After ten wrong ones a right one looks like any other; probes, other addresses and those without a token do as before."""
    here, message = next(ADDRESSES), "of it is looked at"
    with caplog.at_level(logging.WARNING, "gateway.admin"):
        for number in range(MOST_WRONG):
            told = await get(several, "/api/v1/me", *bearer(f"guess-{number}"), source=here)
            assert told.status == 401
        answers = [
            await get(several, path, *bearer(secret), source=here)
            for secret in (CHANGES, "guess", LOOKS, LATE, ROOT_TOKEN)
            for path in ("/api/v1/me", "/metrics", "/nowhere")
        ]
    assert {each.status for each in answers} == {429}
    assert len({each.body.content for each in answers}) == 1
    assert message.encode() in answers[0].body.content
    assert all(1 <= int(each.head.value(b"retry-after") or b"") <= LOCKED_S for each in answers)
    assert (await get(several, "/health/ready", *bearer("guess"), source=here)).status == 200
    assert (await get(several, "/", source=here)).status == 200
    assert (await get(several, "/api/v1/me", source=here)).status == 401
    assert (await get(several, "/api/v1/me", *bearer(LOOKS), source=next(ADDRESSES))).status == 200
    lines = [each.getMessage() for each in caplog.records if here in each.getMessage()]
    assert len(lines) == 1
    assert "zq" not in lines[0]
    assert "guess" not in lines[0]


async def test_right_and_expired_tokens_are_no_guesses(several: Any) -> None:
    """A dashboard whose token has ended does not lock out who sits beside it."""
    here = next(ADDRESSES)
    for _ in range(MOST_WRONG + 5):
        assert (await get(several, "/api/v1/me", *bearer(LATE), source=here)).status == 401
        assert (await get(several, "/api/v1/me", *bearer(LOOKS), source=here)).status == 200


# -- requests that another site makes a browser send ----------------------------------------------------------------------

OWN, OTHER = "http://localhost", "http://evil.example"
NAVIGATES = (("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document"))
SITES: dict[str, tuple[tuple[tuple[str, str], ...], bool, bool]] = {
    "no browser": ((), True, True),
    "our page": ((("Origin", OWN), ("Sec-Fetch-Site", "same-origin")), True, True),
    "our page in an old browser": ((("Origin", OWN),), True, True),
    "our page behind a proxy": ((("Origin", "https://admin.example"), ("Sec-Fetch-Site", "same-origin")), True, True),
    "the address bar": ((("Sec-Fetch-Site", "none"), *NAVIGATES), True, True),
    "a link elsewhere": ((("Sec-Fetch-Site", "cross-site"), *NAVIGATES), True, False),
    "a frame elsewhere": (
        (("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe")),
        False,
        False,
    ),
    "a script elsewhere": (
        (("Origin", OTHER), ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "cors")),
        False,
        False,
    ),
    "an image elsewhere": ((("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")), False, False),
    "another port": ((("Origin", f"{OWN}:3000"), ("Sec-Fetch-Site", "same-site")), False, False),
    "a script elsewhere in an old browser": ((("Origin", OTHER),), False, False),
    "a file": ((("Origin", "null"),), False, False),
    "another port in an old browser": ((("Origin", f"{OWN}:3000"),), False, False),
    "a name that begins like ours": ((("Origin", f"{OWN}.evil.example"),), False, False),
    "nonsense": ((("Origin", "http://[::1"),), False, False),
}


@pytest.mark.parametrize("site", SITES)
async def test_another_web_site_reads_nothing_and_changes_nothing(nobody: Any, site: str) -> None:
    """Where there is no token, all that protects is that a browser says who made it ask."""
    fields, may_read, may_change = SITES[site]
    assert (await do(nobody, "GET", "/api/v1/calls", *fields)).status == (200 if may_read else 403)
    assert (await do(nobody, "PUT", "/api/v1/things/x", *fields)).status == (200 if may_change else 403)
    assert (await do(nobody, "DELETE", "/api/v1/things/x", *fields)).status == (200 if may_change else 403)
    for path in ("/health/live", "/", "/main.js"):
        told = await do(nobody, "GET", path, *fields)
        assert told.status == 200
        assert not told.head.values(b"access-control-allow-origin")


@pytest.mark.parametrize(
    "media",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp", ""],
)
async def test_what_a_form_can_send_is_no_change(nobody: Any, media: str) -> None:
    """415, and nothing happened; so is a body that is packed."""
    told = await do(nobody, "PUT", "/api/v1/things/x", ("content-type", media))
    assert (told.status, told.head.value(b"accept")) == (415, b"application/json")
    assert (await do(nobody, "DELETE", "/api/v1/things/x", ("content-type", media))).status == 415
    packed = (("content-type", "application/json"), ("Content-Encoding", "gzip"))
    assert (await do(nobody, "PUT", "/api/v1/things/x", *packed)).status == 415


async def test_changes_are_read_as_json_and_their_faults_told(nobody: Any) -> None:
    """With a charset or without; a DELETE without a body needs to say nothing about it; 422 names the field."""
    for media in ("application/json", "application/json; charset=utf-8", "APPLICATION/JSON"):
        assert (await do(nobody, "PUT", "/api/v1/things/x", ("content-type", media))).status == 200
    told = await do(nobody, "PUT", "/api/v1/things/x", body={"nam": "zq"})
    problems = json.loads(told.body.content)["error"]["problems"]
    assert (told.status, {each["field"] for each in problems}) == (422, {"", "name"})
    assert b"zq" not in told.body.content
    sent = request("DELETE", "/api/v1/things/x", host="localhost")
    assert (await ask(nobody.admin_port, sent)).status == 200


async def test_a_body_that_breaks_off_is_nobodys_bug(nobody: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The client left; or its chunks are none."""
    head = b"PUT /api/v1/things/x HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    told = await ask(nobody.admin_port, head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert told.status == 400
    _, writer = await asyncio.open_connection("127.0.0.1", nobody.admin_port)
    writer.write(head + b"Content-Length: 50\r\n\r\n{")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await get(nobody, "/health/live")).status == 200
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]
