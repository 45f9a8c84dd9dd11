"""A receiver of webhooks: keeps what it was sent, and answers as a test says.

Owns the far side of an alert. Must not know the gateway: signatures are verified here by the standard's own words.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from aiohttp import web

PATIENCE_S = 20.0
Answer = int | tuple[int, dict[str, str]] | None
"""A status, one with fields, or None: no answer at all."""


@dataclass(frozen=True, slots=True)
class Received:
    """One request."""

    path: str
    fields: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def is_signed_with(self, key: bytes) -> bool:
        """Standard Webhooks 1.0.0: HMAC-SHA256 over id, timestamp and body, joined by full stops."""
        content = b".".join((self.fields["webhook-id"].encode(), self.fields["webhook-timestamp"].encode(), self.body))
        wanted = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
        return f"v1,{wanted}" in self.fields["webhook-signature"].split(" ")


class Receiver:
    """Serves on 127.0.0.1. ``answers`` are used up one a request, then it is 200; a request may be kept without an answer."""

    def __init__(self, *answers: Answer, port: int = 0) -> None:
        self.received: list[Received] = []
        self.answers = list(answers)
        self.port = port
        self.most_at_once = 0
        self._at_once = 0
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner

    @property
    def url(self) -> str:
        """With a path that nobody else may see."""
        return f"http://127.0.0.1:{self.port}/hush-hush"

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._receive)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        fields = {name.lower(): value for name, value in request.headers.items()}
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            self.received.append(Received(request.path, fields, await request.read()))
            async with self._changed:
                self._changed.notify_all()
            answer = self.answers.pop(0) if self.answers else 200
            if answer is None:
                await asyncio.Event().wait()
            status, more = answer if isinstance(answer, tuple) else (answer or 200, {})
            return web.Response(status=status, headers=more)
        finally:
            self._at_once -= 1

    async def until(self, count: int) -> list[Received]:
        """What came, as soon as there is so much."""
        return await self.until_some(lambda _: True, count)

    async def until_some(self, wanted: Callable[[Received], bool], count: int = 1) -> list[Received]:
        """What came of this kind, as soon as there is so much."""
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(lambda: sum(map(wanted, self.received)) >= count)
        return [each for each in self.received if wanted(each)]
