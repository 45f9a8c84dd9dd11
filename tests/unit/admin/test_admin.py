"""The admin listener: who may ask, what may be done, and that neither page nor answer gives anything away."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.harness.books import CHAT, MINI, post
from tests.harness.raw_client import ask
from tests.unit.admin.conftest import ADDRESSES, KEY, TOKEN, get

pytestmark = pytest.mark.asyncio(loop_scope="module")

BEARER = ("Authorization", f"Bearer {TOKEN}")
PROBES = ("/health/live", "/health/ready")
PAGES = ("/", "/main.js", "/style.css", "/vendor/uPlot.iife.min.js")
ASKED = (
    "/metrics", "/system/llm-status", "/api/v1/calls", "/api/v1/calls/x", "/api/v1/requests/x", "/api/v1/budgets",
    "/api/v1/upstreams", "/api/v1/targets", "/api/v1/config", "/nowhere", "/api/v1/nowhere", "/health", "/../health/live", "//health/live",
)  # fmt: skip
"""Everything that needs the token."""
WRONG = {
    "none": (),
    "longer": (("Authorization", f"Bearer {TOKEN}x"),),
    "shorter": (("Authorization", f"Bearer {TOKEN[:-1]}"),),
    "empty": (("Authorization", "Bearer "),),
    "of another kind": (("Authorization", f"Basic {TOKEN}"),),
    "without a kind": (("Authorization", TOKEN),),
    "not ASCII": (("Authorization", "Bearer \u2603"),),
    "in a cookie": (("Cookie", f"token={TOKEN}"),),
    "in another field": (("X-Api-Key", TOKEN),),
}


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("fields", WRONG.values(), ids=WRONG)
async def test_without_the_token_nothing_is_told(locked: Any, path: str, fields: tuple[tuple[str, str], ...]) -> None:
    """401 before anything else, also for paths that are not there; no query string stands in for the header."""
    answer = await get(locked, f"{path}?token={TOKEN}", *fields, source=next(ADDRESSES))
    assert answer.status == 401
    assert answer.head.value(b"www-authenticate") == b"Bearer"
    assert json.loads(answer.body.content)["error"]["status"] == 401


async def test_a_wrong_token_is_told_from_none(locked: Any) -> None:
    """Whoever sent one need not look for why it did not arrive."""
    said = {
        name: json.loads((await get(locked, "/metrics", *fields)).body.content)["error"]["message"]
        for name, fields in WRONG.items()
    }
    wrong = "the bearer token is not one of admin.token and admin.tokens"
    assert said["longer"] == said["shorter"] == said["not ASCII"] == wrong
    needed = "a bearer token is needed: Authorization: Bearer, then admin.token or one of admin.tokens"
    assert said["none"] == said["of another kind"] == needed


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("field", [BEARER, ("authorization", f"bearer {TOKEN}")])
async def test_with_the_token_every_path_answers(locked: Any, path: str, field: tuple[str, str]) -> None:
    """What is there with 200, the rest with 404."""
    assert (await get(locked, path, field)).status == (200 if path in ASKED[:3] + ASKED[5:9] else 404)


@pytest.mark.parametrize("path", [*PROBES, *PAGES])
async def test_probes_and_the_empty_page_need_no_token(locked: Any, path: str) -> None:
    """A kubelet has none, and a person types it into the page."""
    assert (await get(locked, path)).status == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1", "[::2]"])
async def test_a_web_page_elsewhere_cannot_ask_through_a_name_of_its_own(opened: Any, host: str) -> None:
    """DNS rebinding: on loopback only this machine's names are answered, whatever the path."""
    for path in ("/", "/health/ready", "/api/v1/calls", "/nowhere"):
        answer = await get(opened, path, host=host)
        assert answer.status == 421
        assert b"evil" not in answer.body.content


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "localhost:8081", "127.0.0.1:8081", "[::1]:8081"])
async def test_names_of_this_machine_are_answered(opened: Any, host: str) -> None:
    """With and without a port, which a tunnel may change."""
    assert (await get(opened, "/health/live", host=host)).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PURGE"])
@pytest.mark.parametrize("path", ["/", "/api/v1/calls", "/api/v1/config", "/health/ready"])
async def test_reading_is_all_that_can_be_done(opened: Any, path: str, method: str) -> None:
    """405 as JSON, with the methods that there are (RFC 9110 15.5.6), and no CORS answer for a page elsewhere."""
    answer = await get(opened, path, method=method)
    assert answer.status == 405
    assert json.loads(answer.body.content)["error"]["status"] == 405
    assert (answer.head.value(b"allow") or b"").split(b",") == [b"GET", b"HEAD"]
    assert not answer.head.values(b"access-control-allow-origin")


async def test_no_answer_holds_a_secret(locked: Any) -> None:
    """The config shows that there is one; the provider's key and the token are nowhere."""
    config = json.loads((await get(locked, "/api/v1/config", BEARER)).body.content)["config"]
    assert (config["admin"]["token"], config["upstreams"]["openai"]["api_key"]) == ("***", "***")
    assert config["budgets"][0]["limit_usd"] == "5.00"
    await ask(locked.front_port, post(CHAT, MINI))
    for path in (*ASKED, *PROBES, *PAGES):
        answer = await get(locked, path, BEARER)
        for secret in (TOKEN, KEY):
            assert secret.encode() not in answer.head.raw + answer.body.content, path


@pytest.mark.parametrize("path", [*PAGES, *PROBES, "/metrics", "/api/v1/calls", "/nowhere"])
async def test_every_answer_forbids_what_a_browser_could_be_made_to_do(opened: Any, path: str) -> None:
    """No script but our own, no frame, no sniffing, no referrer, nothing from and for elsewhere."""
    head = (await get(opened, path)).head
    policy = dict(part.split(" ", 1) for part in (head.value(b"content-security-policy") or b"").decode().split("; "))
    assert {policy[each] for each in ("default-src", "frame-ancestors", "base-uri", "form-action")} == {"'none'"}
    assert {policy[each] for each in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert head.value(b"x-content-type-options") == b"nosniff"
    assert head.value(b"referrer-policy") == b"no-referrer"
    assert head.value(b"cross-origin-resource-policy") == b"same-origin"


async def test_the_page_needs_nothing_from_elsewhere(opened: Any) -> None:
    """What it refers to, and what its modules import, is on this listener, as what it is."""
    document = (await get(opened, "/")).body.content.decode()
    linked = {path for path in re.findall(r'(?:src|href)="([^"#]+)"', document) if not path.startswith("data:")}
    seen: set[str] = set()
    while linked - seen:
        path = (linked - seen).pop()
        seen.add(path)
        answer = await get(opened, f"/{path}")
        assert answer.status == 200, path
        kind = "text/css" if path.endswith(".css") else "text/javascript"
        assert (answer.head.value(b"content-type") or b"").decode().startswith(kind), path
        if kind == "text/javascript" and not path.startswith("vendor/"):
            linked |= set(re.findall(r'from "\./([^"]+)"', answer.body.content.decode()))
    assert seen >= {"main.js", "api.js", "calls.js", "style.css", "vendor/uPlot.iife.min.js"}
