"""No secret and nothing that was said leaves the gateway but to its upstream and its caller.

Owns two lists. ``PLACES``: wherever a secret or a prompt can be, each with a canary of its own, planted by ``config``, ``CALLS``,
``BROKEN_CONFIGS`` and what the provider answers. ``OUTLETS``: whatever an operator, a dashboard or a thief of the disk can
read. Every canary is looked for in every outlet. A new feature adds its places and its outlets here.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from click.testing import CliRunner

from gateway.admin import pages
from gateway.admission.keys import hash_of
from gateway.call import Call, Request
from gateway.canonical import canonical
from gateway.cli import main
from gateway.compile import compile_snapshot, vocabulary
from gateway.decided import NOTHING, Composition
from gateway.loading import load
from gateway.metering.tokens import Counter
from gateway.wire.headers import noted
from tests.front_door.conftest import Serve
from tests.harness.books import CHAT, MESSAGES, MINI, post
from tests.harness.gateways import ROOT, GatewayProcess, config_for, free_port, write
from tests.harness.listener import listener
from tests.harness.messages import CutOff, chunked, request, response
from tests.harness.raw_client import Answer, ask, connected
from tests.harness.receivers import Receiver
from tests.harness.redis_servers import Server, redis_binary
from tests.harness.scripted import End, ScriptedUpstream, Seen

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLACES = (
    # what a caller sends
    "authorization", "x-api-key", "proxy-authorization", "api-key-header", "goog-key-header", "cookie", "query-key", "other-header",
    "prompt", "system-prompt", "metadata", "tool", "odd-field", "form-file", "form-name", "path-nowhere", "path-unknown",
    "team-refused", "tags-refused", "budget-refused", "user-refused", "two-teams", "malformed-body", "malformed-head",
    "malformed-line", "malformed-length", "long-header", "garbage-encoding", "websocket-protocol", "upgrade-query", "hang-up",
    "trailer", "absolute-user", "refused-prompt", "gateway-key", "gateway-key-unknown", "gateway-key-expired", "gateway-key-team",
    "gateway-key-model",
    # what a provider answers
    "answer", "stream-answer", "stream-error", "error-text", "quoted-key", "error-header", "set-cookie", "reason",
    "unreadable-answer", "broken-answer", "answer-not-json", "reasoning", "late-answer", "refusal-text",
    # what the config holds
    "admin-token", "admin-tokens", "upstream-key", "store-password", "webhook-url", "webhook-secret", "tracing-header", "otlp-header",
    "mlflow-password", "key-file", "env-used", "env-default", "env-unused", "env-provider-key",
    "one-of-several", "another-of-several", "proxy-password",
    # what a broken config holds
    "config-url-credentials", "config-url-query", "config-tracking-credentials", "config-store-credentials", "config-store-query",
    "config-endpoint-credentials", "config-endpoint-query", "config-statsd-credentials", "config-otlp-credentials",
    "config-unknown-key", "config-wrong-kind", "config-no-ascii", "config-yaml", "config-yaml-tag", "config-yaml-alias",
    "config-twice", "config-block", "config-header-list", "config-pattern", "config-money", "config-choice", "config-prices",
    "config-key-hash", "config-key-expires", "config-key-network", "config-several-keys", "config-proxy",
    # what is asked of the admin listener
    "wrong-token", "admin-query", "admin-cookie", "admin-path", "admin-malformed", "admin-method", "admin-agent",
    # what goes wrong inside
    "bug-message", "bug-cause",
)  # fmt: skip


def of(place: str) -> str:
    """The canary of a place: nothing in it looks like a key, so that no mask of words that do finds it by chance."""
    return f"Zq{PLACES.index(place):03d}{place.title().replace('-', '')}qZ"


def leaks(outlet: str, content: bytes | str) -> list[str]:
    """``OUTLET: PLACE`` for each canary that stands in it: as it is, in any case, or in base64."""
    text = content.encode(errors="surrogateescape") if isinstance(content, str) else content
    lower = text.lower()
    found = []
    for place in PLACES:
        bare = of(place).encode()
        forms = [base64.b64encode(b"x" * shift + bare)[4 * (shift > 0) : -4] for shift in range(3)]
        if bare.lower() in lower or any(form in text for form in forms):
            found.append(f"{outlet}: {place}")
    return found


# -- the config ------------------------------------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    return {
        "ZQ_ADMIN": of("admin-token"),
        "ZQ_USED": of("env-used"),
        "ZQ_UNUSED": of("env-unused"),
        "OPENAI_API_KEY": of("env-provider-key"),
        "ANTHROPIC_API_KEY": of("env-provider-key"),
    }


def config(
    folder: Path, upstream: ScriptedUpstream, form: str = "json", to: str = "http://127.0.0.1:9"
) -> dict[str, Any]:
    """Every secret that a config can hold, everything that can be logged at its most talkative, all telemetry ``to`` one place."""
    key_file = folder / "key"
    key_file.write_text(of("key-file"))
    other_file = folder / "another key"
    other_file.write_text(of("another-of-several"))
    hook = f"{to}/hook/{of('webhook-url')}"
    built = config_for(
        folder,
        upstream,
        admin={"token": "${ZQ_ADMIN}", "tokens": [{"name": "viewer", "token": of("admin-tokens")}]},
        store={"password": of("store-password"), "username": "somebody"},
        budgets=[
            {"scope": "global", "limit_usd": 1000, "notify_at": [1]},
            {"scope": "team:poor", "limit_usd": "0.000000001"},
        ],
        alerts={"webhooks": [{"url": hook, "kind": "generic", "secret": of("webhook-secret")}]},
        observability={
            "logging": {"level": "debug", "format": form, "access": True},
            "metrics": {
                "otlp": {
                    "enabled": True,
                    "endpoint": to,
                    "interval": "1s",
                    "headers": {"authorization": of("otlp-header")},
                },
            },
            "tracing": {"enabled": True, "endpoint": to, "headers": {"x-key": of("tracing-header")}},
            "mlflow": {
                "enabled": True,
                "tracking_uri": to,
                "username": "somebody",
                "password": of("mlflow-password"),
            },
        },
        up={"first_byte_timeout": "400ms", "connect_timeout": "2s"},
    )
    dead = f"http://127.0.0.1:{free_port()}"
    built["upstreams"] |= {
        "keyed": {"base_url": upstream.url, "api_key": of("upstream-key")},
        "filed": {"base_url": upstream.url, "api_key_file": str(key_file)},
        "spoken": {"base_url": upstream.url, "api_key": "${ZQ_USED}"},
        "usual": {"base_url": upstream.url, "api_key": "${ZQ_NOT_SET:-" + of("env-default") + "}"},
        "several": {
            "base_url": upstream.url,
            "api_keys": [
                {"name": "one", "api_key": of("one-of-several")},
                {"name": "another", "api_key_file": str(other_file)},
            ],
        },
        "proxied": {
            "base_url": "https://api.provider.test",
            "proxy": f"http://u:{of('proxy-password')}@127.0.0.1:{upstream.port}",
        },
        "dead": {"base_url": dead, "api_key": of("upstream-key")},
    }
    return built


def broken(good: dict[str, Any]) -> dict[str, str]:
    """Configs that are refused, by the place of what they must not say aloud."""

    def with_(**blocks: Any) -> str:
        return yaml.safe_dump(good | blocks)

    def seen(**block: Any) -> str:
        return with_(observability=good["observability"] | block)

    def up(url: str) -> str:
        return with_(upstreams=good["upstreams"] | {"bad": {"base_url": url}})

    text = yaml.safe_dump(good)
    return {
        "config-url-credentials": up(f"http://user:{of('config-url-credentials')}@127.0.0.1/v1"),
        "config-url-query": up(f"http://127.0.0.1/v1?key={of('config-url-query')}"),
        "config-tracking-credentials": seen(
            mlflow={"tracking_uri": f"http://u:{of('config-tracking-credentials')}@127.0.0.1"}
        ),
        "config-store-credentials": with_(store={"url": f"redis://u:{of('config-store-credentials')}@127.0.0.1:1/0"}),
        "config-store-query": with_(store={"url": f"redis://127.0.0.1:1/0?password={of('config-store-query')}"}),
        "config-endpoint-credentials": seen(
            tracing={"endpoint": f"http://u:{of('config-endpoint-credentials')}@127.0.0.1:1"}
        ),
        "config-endpoint-query": seen(tracing={"endpoint": f"http://127.0.0.1:1/?key={of('config-endpoint-query')}"}),
        "config-otlp-credentials": seen(
            metrics={"otlp": {"endpoint": f"http://u:{of('config-otlp-credentials')}@127.0.0.1:1"}}
        ),
        "config-statsd-credentials": seen(metrics={"statsd": f"u:{of('config-statsd-credentials')}@127.0.0.1:1"}),
        "config-unknown-key": with_(admin={"tokne": of("config-unknown-key")}),
        "config-wrong-kind": with_(front={"port": of("config-wrong-kind")}),
        "config-no-ascii": with_(admin={"token": of("config-no-ascii") + "\u2603"}),
        "config-yaml": text + f"\nadmin: token: {of('config-yaml')}\n",
        "config-yaml-tag": text + f"\nretention: !!python/{of('config-yaml-tag')} x\n",
        "config-yaml-alias": text + f"\nretention: *{of('config-yaml-alias')}\n",
        "config-twice": text + f"\nadmin: {{token: {of('config-twice')}}}\n",
        "config-block": with_(admin={"token": {"value": of("config-block")}}),
        "config-header-list": seen(tracing={"headers": [of("config-header-list")]}),
        "config-pattern": seen(content={"redact": [f"({of('config-pattern')}"]}),
        "config-money": with_(budgets=[{"scope": "global", "limit_usd": of("config-money")}]),
        "config-choice": with_(store={"durability": of("config-choice")}),
        "config-key-hash": with_(keys=[{"name": "a", "hash": f"tg-{of('config-key-hash') * 2}"}]),
        "config-key-expires": with_(keys=[{"name": "a", "hash": "ab" * 32, "expires": of("config-key-expires")}]),
        "config-key-network": with_(keys=[{"name": "a", "hash": "ab" * 32, "cidr": [of("config-key-network")]}]),
        "config-proxy": with_(
            upstreams=good["upstreams"]
            | {"bad": {"base_url": "http://a.test", "proxy": f"socks5://u:{of('config-proxy')}@h:1"}}
        ),
        "config-several-keys": with_(
            upstreams=good["upstreams"]
            | {
                "bad": {
                    "base_url": "http://127.0.0.1",
                    "api_keys": [{"name": str(at), "api_key": of("config-several-keys")} for at in (1, 2)],
                }
            }
        ),
        "config-prices": with_(pricing={"overrides": of("config-prices")}),
    }


# -- the calls -------------------------------------------------------------------------------------------------------------

KEYS = (
    ("Authorization", f"Bearer {of('authorization')}"), ("X-Api-Key", of("x-api-key")), ("Cookie", f"session={of('cookie')}"),
    ("Api-Key", of("api-key-header")), ("X-Goog-Api-Key", of("goog-key-header")), ("X-Odd", of("other-header")),
    ("Proxy-Authorization", f"Basic {of('proxy-authorization')}"),
)  # fmt: skip
QUERY = f"?key={of('query-key')}&api-version=1"
SAID = MINI | {
    "messages": [{"role": "system", "content": of("system-prompt")}, {"role": "user", "content": of("prompt")}],
    "metadata": {"note": of("metadata")},
    "tools": [{"type": "function", "function": {"name": "f", "description": of("tool"), "parameters": {}}}],
    of("odd-field"): of("odd-field"),
}
STREAM = SAID | {"stream": True}


def form() -> bytes:
    parts = (
        (f'name="file"; filename="{of("form-name")}.wav"', b"RIFF" + of("form-file").encode()),
        ('name="model"', b"whisper-1"),
    )
    return b"".join(b"--b\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (head.encode(), body) for head, body in parts) + b"--b--\r\n"  # fmt: skip


UPGRADE = (("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="))  # fmt: skip
RAW = b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: front.test\r\n"
CALLS: dict[str, bytes] = {
    "plain": post(CHAT + QUERY, SAID, "", *KEYS),
    "stream": post(CHAT + QUERY, STREAM, "", *KEYS),
    "responses": post("/v1/responses", {"model": "gpt-4o-mini", "input": of("prompt")}, "", *KEYS),
    "completions": post("/v1/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": of("prompt")}, "", *KEYS),
    "embeddings": post("/v1/embeddings", {"model": "text-embedding-3-small", "input": of("prompt")}, "", *KEYS),
    "images": post("/v1/images/generations", {"model": "gpt-image-1", "prompt": of("prompt")}, "", *KEYS),
    "speech": post("/v1/audio/speech", {"model": "tts-1", "input": of("prompt")}, "", *KEYS),
    "anthropic": post(MESSAGES, SAID | {"max_tokens": 5, "system": of("system-prompt")}, "", *KEYS),
    "anthropic stream": post(MESSAGES, STREAM | {"max_tokens": 5, "model": "claude-haiku-4-5"}, "", *KEYS),
    "keyed": post("/keyed/v1/chat/completions", SAID, "", *KEYS),
    "filed": post("/filed/v1/chat/completions", SAID, "", *KEYS),
    "spoken": post("/spoken/v1/chat/completions", SAID, "", *KEYS),
    "usual": post("/usual/v1/chat/completions", SAID, "", *KEYS),
    "several": post("/several/v1/chat/completions", SAID, "", *KEYS),
    "several again": post("/several/v1/chat/completions", SAID, "", *KEYS),
    "dead": post("/dead/v1/chat/completions", SAID, "", *KEYS),
    "proxied": post("/proxied/v1/chat/completions", SAID, "", *KEYS),
    "form": request(
        "POST", "/v1/audio/transcriptions", ("Content-Type", "multipart/form-data; boundary=b"), *KEYS, body=form()
    ),
    "broken form": request("POST", "/v1/audio/transcriptions", ("Content-Type", "multipart/form-data"), body=form()),
    "gzip of nothing": request(
        "POST", CHAT, ("Content-Encoding", "gzip"), *KEYS, body=of("garbage-encoding").encode()
    ),
    "chunked": RAW + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(
        json.dumps(SAID).encode(), trailers=f"X-Trailer: {of('trailer')}\r\n".encode()
    ),
    "models": request("GET", f"/v1/models{QUERY}", *KEYS),
    "unknown": request("GET", f"/up/v9/{of('path-unknown')}{QUERY}", *KEYS),
    "nowhere": request("GET", f"/nowhere/{of('path-nowhere')}", *KEYS),
    "poor": post(CHAT, SAID | {"user": of("refused-prompt")}, "", *KEYS, ("X-Tollgate-Team", "poor")),
    "team": post(CHAT, SAID, "", ("X-Tollgate-Team", of("team-refused") + "x" * 200)),
    "two teams": post(CHAT, SAID, "", ("X-Tollgate-Team", of("two-teams")), ("X-Tollgate-Team", "other")),
    "user": post(CHAT, SAID, "", ("X-Tollgate-User", of("user-refused") + "\u202e")),
    "tags": post(CHAT, SAID, "", ("X-Tollgate-Tags", of("tags-refused"))),
    "budget": post(CHAT, SAID, "", ("X-Tollgate-Budget", of("budget-refused") + "/day")),
    "malformed body": request("POST", CHAT, *KEYS, body=f'{{"model": {of("malformed-body")}'.encode()),
    "malformed head": RAW + f"X-Bad {of('malformed-head')}\r\n\r\n".encode(),
    "malformed value": RAW + f"Authorization: Bearer \x01{of('malformed-head')}\r\n\r\n".encode(),
    "malformed line": f"{of('malformed-line')} nonsense\r\n\r\n".encode(),
    "malformed length": RAW + f"Content-Length: {of('malformed-length')}\r\n\r\n".encode(),
    "two lengths": RAW + f"Content-Length: 3\r\nContent-Length: 4{of('malformed-length')}\r\n\r\nabcd".encode(),
    "long header": RAW + f"X-Long: {of('long-header') * 3000}\r\n\r\n".encode(),
    "absolute": f"GET http://u:{of('absolute-user')}@front.test/v1/models HTTP/1.1\r\nHost: front.test\r\n\r\n".encode(),
    "websocket": request(
        "GET", f"/v1/realtime?model=gpt-realtime&key={of('upgrade-query')}", *UPGRADE, *KEYS,
        ("Sec-WebSocket-Protocol", f"realtime, openai-insecure-api-key.{of('websocket-protocol')}"),
    ),
}  # fmt: skip

OK = ("Content-Type", "application/json")
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "input_tokens": 5, "output_tokens": 2}


def event(**data: Any) -> bytes:
    return b"data: " + json.dumps({"model": "gpt-4o-mini"} | data).encode() + b"\n\n"


def answered(**more: Any) -> bytes:
    message = {
        "role": "assistant",
        "content": of("answer"),
        "reasoning_content": of("reasoning"),
        "refusal": of("refusal-text"),
    }
    body = {"model": "gpt-4o-mini", "choices": [{"index": 0, "message": message}], "usage": USAGE} | more
    return response(200, OK, ("Set-Cookie", of("set-cookie")), body=json.dumps(body).encode())


def quoted(seen: Seen) -> list[Any]:
    """As OpenAI does it: Incorrect API key provided: sk-....."""
    key = (seen.head.value(b"authorization") or b"nobody").decode()
    error = {"message": f"Incorrect API key provided: {key} {of('quoted-key')}", "code": key, "type": of("error-text")}
    return [response(401, OK, ("WWW-Authenticate", of("error-header")), reason=of("reason"), body=json.dumps({"error": error}).encode())]  # fmt: skip


def streamed(*events: bytes) -> list[Any]:
    return [
        response(200, ("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked"), body=None)
        + chunked(*events)
    ]


DELTA = event(choices=[{"index": 0, "delta": {"content": of("stream-answer")}}])
ANSWERS: dict[str, Any] = {
    "ok": lambda seen: (
        streamed(DELTA, DELTA, event(choices=[], usage=USAGE), b"data: [DONE]\n\n")
        if b'"stream":true' in seen.body.content.replace(b" ", b"")
        else [answered()]
    ),
    "no usage": lambda seen: streamed(DELTA, DELTA, b"data: [DONE]\n\n"),
    "error in the stream": lambda seen: streamed(DELTA, event(error={"message": of("stream-error"), "code": of("stream-error")})),
    "quotes the key": quoted,
    "500": [response(500, OK, reason=of("reason"), body=json.dumps({"error": of("error-text")}).encode())],
    "not json": [response(200, OK, body=b"{" + of("answer-not-json").encode())],
    "no http": [of("unreadable-answer").encode() + b"\r\n\r\n", End.CLOSE],
    "bad header": [b"HTTP/1.1 200 OK\r\n" + of("unreadable-answer").encode() + b"\r\n\r\n", End.CLOSE],
    "broken off": [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + of("broken-answer").encode(), End.RESET],
    "late": [0.8, answered(late=of("late-answer"))],
}  # fmt: skip


async def call(port: int, sent: bytes) -> Answer | None:
    try:
        async with asyncio.timeout(15):
            return await ask(port, sent)
    except CutOff:
        return None


async def make_calls(port: int, upstream: ScriptedUpstream) -> set[int]:
    """Every call with a good answer, some with every other one; the statuses that came of it."""
    statuses = set()
    for answer in ANSWERS.values():
        upstream.answer = answer
        names = CALLS if answer is ANSWERS["ok"] else ("plain", "stream", "anthropic", "keyed", "models", "websocket")
        for name in names:
            found = await call(port, CALLS[name])
            statuses.add(found.status if found is not None else 0)
    head = response(200, ("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked"), body=None)
    upstream.answer = [head, b"%x\r\n%b\r\n" % (len(DELTA), DELTA), asyncio.Event()]
    async with connected(port) as client:
        await client.send(post(CHAT, STREAM | {"user": of("hang-up")}, "", *KEYS))
        await client.see(b"data:")
        client.reset()
    async with connected(port) as client:  # left in the middle of a body
        await client.send(RAW + b"Content-Length: 1000\r\n\r\n" + of("hang-up").encode())
        client.reset()
    return statuses


ADMIN: tuple[bytes, ...] = (
    request("GET", f"/api/v1/calls?token={of('admin-query')}", ("Authorization", f"Bearer {of('wrong-token')}"), host="localhost"),
    request("GET", f"/metrics?{of('admin-query')}", ("Cookie", of("admin-cookie")), host="localhost"),
    request("GET", f"/{of('admin-path')}/x", ("Authorization", f"Basic {of('wrong-token')}"), host="localhost"),
    request("GET", f"/health/ready/{of('admin-path')}?exclude={of('admin-query')}", host="localhost"),
    request(of("admin-method").upper(), "/metrics", host="localhost"),
    request("GET", "/health/live", ("User-Agent", f"probe Bearer {of('admin-agent')}"), host="localhost"),
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \x01" + of("admin-malformed").encode() + b"\r\n\r\n",
    b"GET /" + of("admin-malformed").encode() + b"\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    of("admin-malformed").encode() + b"\r\n\r\n",
    request("GET", "/metrics", host=of("admin-malformed")),
)  # fmt: skip


# -- the outlets -----------------------------------------------------------------------------------------------------------


@dataclass
class Lived:
    """A gateway that has seen everything, and where it lived."""

    process: GatewayProcess
    folder: Path
    environ: dict[str, str]
    taking: Receiver
    broken: dict[str, str]
    told: list[Answer]
    """What the admin listener answered to ``ADMIN``."""

    async def look(self, path: str) -> bytes:
        bearer = ("Authorization", f"Bearer {of('admin-token')}")
        answer = await ask(self.process.admin_port, request("GET", path, bearer, host="localhost"))
        return answer.head.raw + answer.body.content


async def printed(lived: Lived) -> dict[str, bytes]:
    return {"standard output and error": (lived.folder / "log.jsonl").read_bytes()}


async def scraped(lived: Lived) -> dict[str, bytes]:
    return {"/metrics": await lived.look("/metrics")}


async def api(lived: Lived) -> dict[str, bytes]:
    """Every route of the API and the page, for every call that there was."""
    found = {}
    calls = json.loads((await lived.look("/api/v1/calls?limit=500")).partition(b"\r\n\r\n")[2])["calls"]
    assert len(calls) > len(CALLS)
    values = {"call_id": [each["call_id"] for each in calls], "correlation_id": [each["correlation_id"] for each in calls],
              "check": ["store", "config"]}  # fmt: skip
    for route in listener().api:
        if route.method != "GET" or route.media == "text/event-stream":  # the stream says what the others say
            continue
        name = re.search(r"{(\w+)}", route.path)
        for value in values[name[1]][:60] if name else [""]:
            path = re.sub(r"{\w+}", value, route.path)
            found[path] = await lived.look(path)
    for path in (
        "/health/ready?verbose",
        "/api/v1/calls?limit=500",
        "/api/v1/spend?by=team,model",
        *(each.path for each in pages.routes()),
    ):
        found[path] = await lived.look(path)
    found |= {f"answer {number}": each.head.raw + each.body.content for number, each in enumerate(lived.told)}
    return found


async def checked(lived: Lived) -> dict[str, bytes]:
    """What ``tollgate check`` says of the good config, in both forms, and of each broken one."""
    found = {}
    good = lived.folder / "tollgate.yaml"
    for options in ([], ["--json"]):
        found[f"check {options}"] = await command(lived, "check", "--config", str(good), *options)
    for place, text in lived.broken.items():
        bad = lived.folder / "bad.yaml"
        bad.write_text(text)
        refused = CliRunner().invoke(main, ["check", "--config", str(bad)], env=lived.environ)
        assert refused.exit_code == 2, refused.output
        found[f"check of {place}"] = refused.output.encode() + refused.stderr.encode()
    return found


async def stored(lived: Lived) -> dict[str, bytes]:
    files = [each for each in lived.folder.glob("books.db*") if each.is_file()]
    assert files
    return {each.name: each.read_bytes() for each in files}


async def sent_out(lived: Lived) -> dict[str, bytes]:
    """What went to other servers, the header fields aside: those carry the credentials for them."""
    wanted = ("/v1/traces", "/v1/metrics", "/hook/")

    def bodies(path: str) -> bytes:
        return b"".join(body for at, _, body in lived.taking.requests if path in at)

    await lived.taking.until(lambda: all(bodies(path) for path in wanted))
    await lived.taking.until(lambda: any("x-mlflow-experiment-id" in head for _, head, _ in lived.taking.requests))
    return {path: bodies(path) for path in wanted}


OUTLETS: dict[str, Callable[[Lived], Awaitable[dict[str, bytes]]]] = {
    "log": printed,
    "metrics": scraped,
    "admin API": api,
    "check": checked,
    "store": stored,
    "receivers": sent_out,
}


async def command(lived: Lived, *arguments: str) -> bytes:
    run = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *arguments),
        cwd=lived.folder,
        env={**os.environ, **lived.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await run.communicate()
    assert run.returncode == 0, said
    return said


async def reload_broken(process: GatewayProcess, folder: Path, texts: dict[str, str]) -> None:
    """Each broken config in turn; all are refused."""
    file = folder / "tollgate.yaml"
    good = file.read_text()
    for text in texts.values():
        before = process.log.count("config not reloaded")
        file.write_text(text)
        process.signal(signal.SIGHUP)
        async with asyncio.timeout(20):
            while process.log.count("config not reloaded") == before:
                await asyncio.sleep(0.02)
    before = process.log.count("config reloaded")
    file.write_text(good)
    process.signal(signal.SIGHUP)
    async with asyncio.timeout(20):
        while process.log.count("config reloaded") == before:
            await asyncio.sleep(0.02)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def taking() -> AsyncIterator[Receiver]:
    """Takes all telemetry."""
    async with Receiver() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["json", "console"])
async def lived(
    request: pytest.FixtureRequest,
    standing_upstream: ScriptedUpstream,
    tmp_path_factory: pytest.TempPathFactory,
    taking: Receiver,
) -> AsyncIterator[Lived]:
    folder = tmp_path_factory.mktemp("secrets")
    standing_upstream.forget()
    environ = environment()
    for name, text in environ.items():
        os.environ[name] = text
    try:
        built = config(folder, standing_upstream, request.param, taking.url)
        process = GatewayProcess(folder, built)
        await process.start()
        try:
            statuses = await make_calls(process.front_port, standing_upstream)
            assert statuses >= {200, 400, 401, 404, 429, 431, 500, 502, 504}
            told = [found for sent in ADMIN if (found := await call(process.admin_port, sent)) is not None]
            assert {answer.status for answer in told} >= {200, 400, 401, 404, 421}
            texts = broken(yaml.safe_load((folder / "tollgate.yaml").read_text()))
            await reload_broken(process, folder, texts)
            yield Lived(process, folder, environ, taking, texts, told)
        finally:
            await process.kill()
    finally:
        for name in environ:
            del os.environ[name]


@pytest.mark.parametrize("outlet", OUTLETS)
async def test_no_canary_comes_out(lived: Lived, outlet: str) -> None:
    """Of all places, in all outlets."""
    found = await OUTLETS[outlet](lived)
    assert found
    assert all(found.values()), [name for name, content in found.items() if not content]
    assert [leak for name, content in found.items() for leak in leaks(name, content)] == []


async def test_what_had_to_go_to_the_upstream_went_there(lived: Lived, standing_upstream: ScriptedUpstream) -> None:
    """The canaries were really in the calls: otherwise nothing could have leaked."""
    seen = b"".join(each.head.raw + each.body.content for each in standing_upstream.seen)
    sent = {
        "authorization", "x-api-key", "cookie", "query-key", "other-header", "prompt", "system-prompt", "metadata", "tool",
        "odd-field", "form-file", "form-name", "path-unknown", "upstream-key", "key-file", "one-of-several", "another-of-several", "env-used",
        "env-default", "websocket-protocol", "upgrade-query", "hang-up",
    }  # fmt: skip
    assert {leak.removeprefix("seen: ") for leak in leaks("seen", seen)} >= sent


# -- what is not reached from outside --------------------------------------------------------------------------------------


async def test_bugs_quote_nothing(
    upstream: ScriptedUpstream, serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An exception may hold whatever was said; raised in each room in turn, it is told by its type and place."""
    upstream.answer = [answered()]
    gateway = await serve(
        observability={"logging": {"level": "debug"}},
        budgets=[{"scope": "global", "limit_usd": 100}],
        metering={"compare_every": 1},
    )

    def bug(*_: Any, **__: Any) -> Any:
        try:
            raise KeyError(of("bug-cause"))
        except KeyError as error:
            raise ValueError(of("bug-message")) from error

    for place in (
        (gateway.handle, "_admit"),
        (gateway.handle, "_forward"),
        (gateway._store, "reserve"),
        (gateway._store, "settle_all"),
        (gateway._metrics, "take"),
        (gateway._telemetry.recent, "take"),
        (gateway._inspector, "_limits"),
        (gateway._inspector, "check_store"),
        ("gateway.settle.record_of", bug),
        ("gateway.settle._account", bug),
        ("gateway.watch.Watch.account", bug),
        ("gateway.watch.Watch.compare", bug),
        ("gateway.reload.load", bug),
    ):
        with monkeypatch.context() as broken_room:
            if isinstance(place[0], str):
                broken_room.setattr(*place)
            else:
                broken_room.setattr(place[0], place[1], bug, raising=True)
            for name in ("plain", "stream"):
                await call(gateway.front_port, CALLS[name])
            for path in ("/api/v1/budgets", "/metrics", "/health/ready", "/api/v1/config", "/system/llm-status"):
                answer = await ask(gateway.admin_port, request("GET", path, host="localhost"))
                assert leaks(path, answer.head.raw + answer.body.content) == []
            async with asyncio.timeout(10):
                while gateway.handle.active or gateway._settler.depth:
                    await asyncio.sleep(0.01)
    printed_text = "".join(capsys.readouterr())
    assert "a bug while handling call" in printed_text
    assert "ValueError" in printed_text
    assert "KeyError" in printed_text
    assert leaks("log", printed_text) == []


async def test_a_gateway_key_is_told_to_nobody(
    upstream: ScriptedUpstream,
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Not even to the upstream: the good one, one that is unknown, one that has expired, and what came with them and was
    refused. The mask of what looks like a key is taken off, so that it hides nothing.
    """
    monkeypatch.setattr("gateway.observe.logs.SECRETS", re.compile(r"(?!)"))
    good, unknown = f"tg-{of('gateway-key') * 2}", f"tg-{of('gateway-key-unknown') * 2}"
    late = f"tg-{of('gateway-key-expired') * 2}"
    gateway = await serve(
        up={"api_key": "own"},
        auth={"mode": "keys"},
        keys=[
            {"name": "good", "hash": hash_of(good), "team": "search", "models": ["gpt-*"]},
            {"name": "late", "hash": hash_of(late), "expires": "2026-01-01"},
        ],
        upstreams={"gemini": {"base_url": upstream.url, "protocol": "gemini", "api_key": "own"}},
        budgets=[{"scope": "key:*", "limit_usd": 100}],
        observability={"logging": {"level": "debug"}, "metrics": {"labels": ["team", "key_name"]}},
    )
    upstream.answer = ANSWERS["ok"]
    gemini = "/gemini/v1beta/models/gpt-like:generateContent"
    statuses = []
    for text in (good, unknown, late):
        for field in (("Authorization", f"Bearer {text}"), ("X-Api-Key", text), ("Api-Key", text)):
            for more in ((), (("X-Tollgate-Team", of("gateway-key-team")),)):
                for path in (CHAT, MESSAGES, f"{gemini}?key={text}"):
                    statuses.append(await call(gateway.front_port, post(path, MINI, "", field, *more)))
        statuses.append(await call(gateway.front_port, post(CHAT, STREAM, "", ("Authorization", f"Bearer {text}"))))
    both = (("Authorization", f"Bearer {good}"), ("X-Api-Key", unknown))
    statuses.append(await call(gateway.front_port, post(CHAT, MINI, "", *both)))
    answers = [each for each in statuses if each is not None]
    assert {each.status for each in answers} == {200, 401, 403}
    other = post(CHAT, MINI | {"model": "other"}, "", ("X-Odd", of("gateway-key-model")), ("Api-Key", good))
    assert (await ask(gateway.front_port, other)).status == 403
    async with asyncio.timeout(10):
        while gateway.handle.active or gateway._settler.depth:
            await asyncio.sleep(0.01)
    config_file = tmp_path / "tollgate.yaml"
    told = {f"answer {number}": each.head.raw + each.body.content for number, each in enumerate(answers)}
    told["upstream"] = b"".join(each.head.raw + each.body.content for each in upstream.seen)
    for path in (
        "/metrics",
        "/health/ready",
        "/system/llm-status",
        "/api/v1/budgets",
        "/api/v1/config",
        "/api/v1/calls?limit=500",
    ):
        answer = await ask(gateway.admin_port, request("GET", path, host="localhost"))
        assert answer.status == 200
        told[path] = answer.body.content
    told["disk"] = b"".join(each.read_bytes() for each in tmp_path.rglob("*") if each.is_file())
    listed = await asyncio.to_thread(CliRunner().invoke, main, ["keys", "list", "--config", str(config_file)])
    told["keys"] = listed.output_bytes
    told["repr"] = f"{gateway.snapshot!r} {gateway.settings!r}".encode()
    told["log"] = "".join(capsys.readouterr()).encode()
    assert all(told.values())
    found = [leak for name, each in told.items() for leak in leaks(name, each) if ": gateway-key" in leak]
    assert found == []
    assert b'"key_name":"late"' in told["/api/v1/calls?limit=500"].replace(b" ", b"")


async def test_a_store_that_asks_for_a_password_is_not_told_aloud(
    upstream: ScriptedUpstream, serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor is the password when the store does not take it any more."""
    binary = redis_binary()
    if binary is None:
        pytest.skip("there is no Redis server on this machine")
    upstream.answer = [answered()]
    server = Server(binary)
    try:
        server.say("CONFIG", "SET", "requirepass", of("store-password"))
        block = {
            "url": server.tcp_url,
            "password": of("store-password"),
            "journal": str(tmp_path / "j"),
            "timeout": "1s",
        }
        budgets = [{"scope": "global", "limit_usd": 100}]
        gateway = await serve(store=block, observability={"logging": {"level": "debug"}}, budgets=budgets)
        assert [(await ask(gateway.front_port, CALLS["plain"])).status for _ in range(2)] == [200, 200]
        server.kill()
        server.start()
        server.say("CONFIG", "SET", "requirepass", "another")
        found = {"call": await ask(gateway.front_port, CALLS["plain"])}
        assert found["call"].status == 503
        for path in ("/metrics", "/health/ready", "/system/llm-status", "/api/v1/budgets", "/api/v1/config"):
            found[path] = await ask(gateway.admin_port, request("GET", path, host="localhost"))
        found_leaks = [leak for name, each in found.items() for leak in leaks(name, each.head.raw + each.body.content)]
        assert found_leaks == []
        assert (
            leaks("journal", b"".join(each.read_bytes() for each in (tmp_path / "j").rglob("*") if each.is_file()))
            == []
        )
    finally:
        server.close()
    printed_text = "".join(capsys.readouterr())
    assert "the store" in printed_text
    assert leaks("log", printed_text) == []


async def test_no_repr_shows_a_secret(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """Of settings, endpoints, calls: a debugger, an assertion and a log line that was meant well all print them."""
    settings = load(write(tmp_path, config(tmp_path, upstream)), environment())
    snapshot = compile_snapshot(settings, {}, Counter(vocabulary), Composition().of(settings, NOTHING))
    body = json.dumps(SAID).encode()
    headers = tuple((name.encode(), text.encode()) for name, text in KEYS)
    noted_of = noted(headers)
    asked = Request("POST", CHAT + QUERY, headers, noted_of, "openai", "openai", CHAT + QUERY, "", body, "", body)
    shown = {
        "settings": settings,
        "canonical": canonical(settings),
        "blocks": [settings.admin, settings.store, settings.alerts, settings.observability, dict(settings.upstreams)],
        "secret": [str(settings.admin.token), f"{settings.admin.token}", [settings.admin.token]],
        "snapshot": snapshot,
        "pools": [(pool, pool.endpoint) for pool in snapshot.pools.values()],
        "request": asked,
        "call": Call("c1", 0.0, 0, request=asked),
    }
    assert [leak for name, each in shown.items() for leak in leaks(name, f"{each!r} {each}")] == []


async def test_every_place_is_planted_and_every_canary_can_be_found() -> None:
    """A list that nobody uses proves nothing."""
    for place in PLACES:
        bare = of(place).encode()
        for content in (bare, bare.lower(), b'{"x": "' + bare + b'"}', base64.b64encode(b"user:" + bare)):
            assert leaks("here", content) == [f"here: {place}"]
    text = Path(__file__).read_text()
    unused = [place for place in PLACES if not re.search(rf"""of\(["']{place}["']\)""", text)]
    assert unused == []
