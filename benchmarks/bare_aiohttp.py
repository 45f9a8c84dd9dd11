"""The measure of all things here: the textbook pass-through on aiohttp, with nothing else in it.

``python bare_aiohttp.py PORT UPSTREAM_PORT``
"""

import sys
from collections.abc import AsyncIterator

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "host", "content-length"}


async def forward(request: web.Request) -> web.StreamResponse:
    headers = [(name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP]
    url = request.app["upstream"] + request.path_qs
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
    timeout = ClientTimeout(total=None)
    app["session"] = ClientSession(auto_decompress=False, connector=TCPConnector(limit=0), timeout=timeout)
    yield
    await app["session"].close()


def main() -> None:
    app = web.Application(client_max_size=200 * 1024 * 1024)
    app["upstream"] = f"http://127.0.0.1:{sys.argv[2]}"
    app.router.add_route("*", "/{path:.*}", forward)
    app.cleanup_ctx.append(session)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)


if __name__ == "__main__":
    main()
