"""The measure of all things here: the textbook pass-through on aiohttp, with nothing else in it.

``python bare_aiohttp.py PORT UPSTREAM_PORT [TLS_PORT CERTIFICATE] [uvloop]``. What comes under ``/secure`` goes to the TLS port.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import AsyncIterator

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "host", "content-length"}


async def forward(request: web.Request) -> web.StreamResponse:
    headers = [(name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP]
    url = request.app["upstream"] + request.path_qs
    if request.path.startswith("/secure/"):
        url = request.app["secure"] + request.path_qs.removeprefix("/secure")
    body = await request.read()
    async with request.app["session"].request(
        request.method, url, headers=headers, data=body, allow_redirects=False
    ) as upstream:
        response = web.StreamResponse(status=upstream.status)
        for name, value in upstream.headers.items():
            if name.lower() not in HOP_BY_HOP or name.lower() == "content-length":
                response.headers.add(name, value)
        await response.prepare(request)
        async for piece in upstream.content.iter_any():
            await response.write(piece)
        await response.write_eof()
        return response


async def session(app: web.Application) -> AsyncIterator[None]:
    connector = TCPConnector(limit=0, ssl=app["trusted"])
    app["session"] = ClientSession(auto_decompress=False, connector=connector, timeout=ClientTimeout(total=None))
    yield
    await app["session"].close()


def main() -> None:
    port, upstream, *more = sys.argv[1:]
    loop = None
    if more[-1:] == ["uvloop"]:
        import uvloop  # noqa: PLC0415 - only where it was asked for

        loop = uvloop.new_event_loop()
        more.pop()
    app = web.Application(client_max_size=200 * 1024 * 1024)
    app["upstream"] = f"http://127.0.0.1:{upstream}"
    app["secure"] = f"https://localhost:{more[0]}" if more else ""
    app["trusted"] = ssl.create_default_context(cafile=more[1]) if more else True
    app.router.add_route("*", "/{path:.*}", forward)
    app.cleanup_ctx.append(session)
    web.run_app(app, host="127.0.0.1", port=int(port), access_log=None, print=None, loop=loop)


if __name__ == "__main__":
    main()
