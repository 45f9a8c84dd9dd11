"""Gateways in processes of their own on one store, and an operator who talks to them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from tests.harness.books import CHAT, MINI
from tests.harness.gateways import GatewayProcess, config_for
from tests.harness.messages import request
from tests.harness.raw_client import Answer, ask
from tests.harness.scripted import ScriptedUpstream


@asynccontextmanager
async def processes(
    folder: Path, upstream: ScriptedUpstream | str, count: int, **blocks: Any
) -> AsyncIterator[list[GatewayProcess]]:
    """So many, alike but for their folder and ports; each has its config in its folder, ``folder/0`` and so on."""
    made = []
    for number in range(count):
        own = folder / str(number)
        own.mkdir()
        made.append(GatewayProcess(own, config_for(own, upstream, **{**blocks, "up": dict(blocks.get("up", {}))})))
    async with AsyncExitStack() as stack:
        for each in made:
            stack.push_async_callback(each.kill)
        await asyncio.gather(*(each.start() for each in made))
        yield made


async def say(gateway: Any, method: str, path: str, body: Any = None, *fields: tuple[str, str]) -> tuple[int, Any]:
    """What the admin listener answers: status and JSON. ``body`` is a value, or the bytes themselves."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
    kind = (("Content-Type", "application/json"),) if body is not None else ()
    answer = await ask(gateway.admin_port, request(method, path, *kind, *fields, host="localhost", body=text))
    return answer.status, json.loads(answer.body.content)


async def done(gateway: Any, method: str, path: str, body: Any = None, *fields: tuple[str, str]) -> Any:
    """The same, for what must be possible."""
    status, found = await say(gateway, method, path, body, *fields)
    assert status < 300, (status, found)
    return found


def with_key(key: str, body: dict[str, Any] = MINI) -> bytes:
    """A call that brings a gateway key."""
    return request("POST", CHAT, ("Authorization", f"Bearer {key}"), body=json.dumps(body).encode())


async def call(gateway: Any, key: str) -> Answer:
    """One call on a connection of its own."""
    return await ask(gateway.front_port, with_key(key))


async def until_status(gateway: Any, key: str, status: int, limit_s: float = 10.0) -> Answer:
    """Call until it is answered so."""
    async with asyncio.timeout(limit_s):
        while (answer := await call(gateway, key)).status != status:
            await asyncio.sleep(0.02)
    return answer
