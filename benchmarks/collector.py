"""Takes whatever telemetry is sent to it and answers at once: ``python collector.py PORT [hang]``. UDP on the same port is taken too."""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web


async def take(request: web.Request) -> web.Response:
    await request.read()
    if "hang" in sys.argv:
        await asyncio.sleep(3600)
    if request.path.endswith("get-by-name"):
        return web.json_response({"experiment": {"experiment_id": "1"}})
    return web.Response()


async def main() -> None:
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    port = int(sys.argv[1])
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.get_running_loop().create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", port))
    await asyncio.Event().wait()


asyncio.run(main())
