"""A pretend provider: OpenAI's, Anthropic's and Gemini's APIs on loopback, for ``tollgate demo``, tests and benchmarks.

Answers are made of words that follow from the request, so that the same request gets the same answer; usage is consistent
with them (a token is a word). Nothing here is imported by the gateway itself.

What a request wants is said in the header ``x-simulate``, parts separated by ``;``:

=============  =======================================================================================
``words=50``   how many words are written (default: 20, or the caller's maximum)
``delay=0.2``  seconds before the head
``pace=0.01``  seconds between events of a stream
``status=429`` an error of that status, in the dialect's own form
``usage=none`` no usage, nowhere
``cached=100`` so many of the input tokens are said to be cached, ``reasoning=30`` so many of the output to be reasoning
``cut=5``      the connection is broken off after so many events (0: before the head)
=============  =======================================================================================

Who cannot send headers asks for a model named ``simulate-error-500``. ``ledger`` lists what the provider would bill: for a
stream that the client left, what had been written by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import orjson
from aiohttp import web

from gateway import simulated

Json = dict[str, Any]

LEDGER_CALLS = 1_000_000


@dataclass(slots=True)
class Wish:
    """What ``x-simulate`` asks for."""

    words: int = 0
    delay: float = 0.0
    pace: float = 0.0
    status: int = 200
    usage: bool = True
    cached: int = 0
    reasoning: int = 0
    cut: int = -1


WISHES: dict[str, type[int | float]] = {
    "words": int, "delay": float, "pace": float, "status": int, "cached": int, "reasoning": int, "cut": int,
}  # fmt: skip
"""Those that are numbers."""


@dataclass(slots=True)
class Billed:
    """One call as the provider sees it. ``output`` grows while a stream is written."""

    path: str
    model: str
    input: int
    cached: int = 0
    output: int = 0
    reasoning: int = 0
    whole: bool = False


@dataclass(slots=True)
class Simulator:
    """An async context manager; ``url`` is where it listens. ``port`` 0 takes a free one; ``pace`` is the default pace."""

    port: int = 0
    pace: float = 0.0
    delay: float = 0.0
    ledger: deque[Billed] = field(default_factory=lambda: deque(maxlen=LEDGER_CALLS))
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Without a path: ``/v1`` and ``/v1/messages`` are below it."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=200 * 1024 * 1024)
        for path in simulated.SHAPES:
            app.router.add_post(path, self._answer)
        app.router.add_post(
            "/{version:v1|v1beta}/models/{model}:{verb:generateContent|streamGenerateContent}", self._generate
        )
        app.router.add_post("/v1/embeddings", self._embed)
        app.router.add_post("/v1/messages/count_tokens", self._count)
        app.router.add_get("/v1/models", self._models)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    # -- answers ------------------------------------------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        asked, wish = await _read(request)
        return await self._answer_as(request, simulated.SHAPES[request.path], asked, wish)

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        """Gemini: model and stream stand in the path, the output's maximum in a block of its own."""
        asked, wish = await _read(request, request.match_info["model"])
        asked["stream"] = request.match_info["verb"].startswith("stream")
        settings = asked.get("generationConfig")
        if isinstance(settings, dict) and "maxOutputTokens" in settings:
            asked["max_output_tokens"] = settings["maxOutputTokens"]
        return await self._answer_as(request, simulated.GENERATE, asked, wish)

    async def _answer_as(
        self, request: web.Request, shape: simulated.Shape, asked: Json, wish: Wish
    ) -> web.StreamResponse:
        wish.pace = wish.pace or self.pace
        await asyncio.sleep(wish.delay or self.delay)
        if wish.cut == 0:
            return _broken_off(request)
        if wish.status != 200:
            return _error(request.path, wish.status)
        words = list(_words(asked, wish))
        billed = Billed(request.path, str(asked.get("model", "")), _size(asked), cached=min(wish.cached, _size(asked)))
        self.ledger.append(billed)
        if asked.get("stream") is True:
            return await self._stream(request, shape, asked, wish, words, billed)
        billed.output, billed.reasoning, billed.whole = len(words), min(wish.reasoning, len(words)), True
        return _json(shape.whole(asked, words, _counts(billed, wish)))

    async def _stream(
        self, request: web.Request, shape: simulated.Shape, asked: Json, wish: Wish, words: list[str], billed: Billed
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream; charset=utf-8", "x-request-id": _id(asked)}
        )
        await response.prepare(request)
        final = Billed(
            billed.path, billed.model, billed.input, billed.cached, len(words), min(wish.reasoning, len(words))
        )
        for number, (event, is_word) in enumerate(shape.events(asked, words, _counts(final, wish))):
            if number == wish.cut:
                return _broken_off(request, response)
            if number and wish.pace:
                await asyncio.sleep(wish.pace)
            await response.write(event)
            billed.output += is_word
        billed.output, billed.reasoning, billed.whole = final.output, final.reasoning, True
        await response.write_eof()
        return response

    async def _embed(self, request: web.Request) -> web.StreamResponse:
        asked, wish = await _read(request)
        await asyncio.sleep(wish.delay or self.delay)
        if wish.status != 200:
            return _error(request.path, wish.status)
        given = asked.get("input", "")
        texts = given if isinstance(given, list) else [given]
        read = sum(len(str(text).split()) or 1 for text in texts)
        self.ledger.append(Billed(request.path, str(asked.get("model", "")), read, whole=True))
        return _json(simulated.embeddings(asked, [_vector(str(text)) for text in texts], read))

    async def _count(self, request: web.Request) -> web.StreamResponse:
        asked, _ = await _read(request)
        return _json({"input_tokens": _size(asked)})

    async def _models(self, request: web.Request) -> web.StreamResponse:
        names = ("gpt-4o-mini", "gpt-4o", "text-embedding-3-small", "claude-haiku-4-5")
        return _json(
            {"object": "list", "data": [{"id": name, "object": "model", "owned_by": "simulator"} for name in names]}
        )


async def _read(request: web.Request, model: str = "") -> tuple[Json, Wish]:
    """The request's object and what it wishes for; where there is no object, an error of the caller's. ``model``: of the path."""
    asked: Any = None
    with contextlib.suppress(orjson.JSONDecodeError):
        asked = orjson.loads(await request.read())
    wish = _wish(request.headers.get("x-simulate", ""))
    if not isinstance(asked, dict):
        asked, wish.status = {}, 400
    asked |= {"model": model} if model else {}
    model = str(asked.get("model", ""))
    if model.startswith("simulate-error-"):
        wish.status = int(_number(model[15:], int, "status") or wish.status)
    return asked, wish


def _wish(text: str) -> Wish:
    """The header, read; a part that makes no sense is left out."""
    wish = Wish()
    for part in text.split(";"):
        name, _, value = part.strip().partition("=")
        if name == "usage":
            wish.usage = value != "none"
        elif name in WISHES:
            number = _number(value, WISHES[name], name)
            if number is not None:
                setattr(wish, name, number)
    return wish


def _number(text: str, kind: type[int | float], name: str) -> float | None:
    try:
        number = kind(text)
    except ValueError:
        return None
    least, most = (200, 599) if name == "status" else (0, 1_000_000)
    return number if least <= number <= most else None


def _size(asked: Json) -> int:
    """Input tokens: the words of everything that was asked."""
    texts = [asked.get(name) for name in ("messages", "prompt", "input", "contents", "system", "instructions", "tools")]
    return max(1, sum(len(orjson.dumps(text).split()) for text in texts if text))


def _words(asked: Json, wish: Wish) -> Iterator[str]:
    """The words of the answer, from a hash of the request."""
    most = next(
        (asked[name] for name in ("max_completion_tokens", "max_tokens", "max_output_tokens") if name in asked), None
    )
    count = wish.words or 20
    if isinstance(most, int) and most > 0:
        count = min(count, most) if wish.words else min(20, most)
    same = {
        name: value for name, value in asked.items() if name != "stream_options"
    }  # as with a real one: it changes no word
    seed = hashlib.sha256(orjson.dumps(same, option=orjson.OPT_SORT_KEYS)).digest()
    for number in range(count):
        yield simulated.WORDS[(seed[number % 32] + number) % len(simulated.WORDS)]


def _counts(billed: Billed, wish: Wish) -> simulated.Counts | None:
    return simulated.Counts(billed.input, billed.cached, billed.output, billed.reasoning) if wish.usage else None


def _vector(text: str) -> list[float]:
    return [round(byte / 255 - 0.5, 4) for byte in hashlib.sha256(text.encode()).digest()[:8]]


def _id(asked: Json) -> str:
    return "sim-" + hashlib.sha256(orjson.dumps(asked)).hexdigest()[:12]


def _json(body: Json) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")


def _error(path: str, status: int) -> web.Response:
    headers = {"retry-after": "1"} if status == 429 else {}
    return web.Response(
        status=status, body=simulated.error(path, status), content_type="application/json", headers=headers
    )


def _broken_off(request: web.Request, response: web.StreamResponse | None = None) -> web.StreamResponse:
    """The connection ends here, without a proper end."""
    if request.transport is not None:
        request.transport.close() if response is not None else request.transport.abort()
    return response or web.Response()
