"""A connection of the admin listener: aiohttp's, but for what it says of a message that it cannot read.

aiohttp quotes such a message in its answer and, with a stack, on standard error; a token may stand in it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from gateway.admin.answers import problem

log = logging.getLogger("gateway.admin")


class _Connection(RequestHandler):
    __slots__ = ("_headers",)

    def __init__(self, server: web.Server, headers: Mapping[str, str], **limits: Any) -> None:
        super().__init__(server, **limits)
        self._headers = headers

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What could not be parsed, or a bug of ours. The input is never quoted."""
        if status >= 500:
            log.error("a bug in the admin listener", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is on its way already")
        answer = problem(status, "no valid HTTP request" if status < 500 else "the gateway failed while answering")
        answer.headers.update(self._headers)
        answer.force_close()
        return answer


class _Server(web.Server):
    def __init__(self, server: web.Server, headers: Mapping[str, str], **limits: Any) -> None:
        super().__init__(server.request_handler, request_factory=server.request_factory)
        self._headers = headers
        self._limits = limits

    def __call__(self) -> RequestHandler:
        return _Connection(self, self._headers, loop=self._loop, **self._limits)


class Runner(web.AppRunner):
    """Serves an application over such connections. ``headers`` stand in every answer that the application did not make."""

    __slots__ = ("_headers",)

    def __init__(self, app: web.Application, headers: Mapping[str, str], *, shutdown_s: float) -> None:
        super().__init__(app, shutdown_timeout=shutdown_s)
        self._headers = headers

    async def _make_server(self) -> web.Server:
        return _Server(await super()._make_server(), self._headers, access_log=None)
