"""An exchange whose task is cancelled, as a shutdown does with what has not ended a second after it was cut."""

from __future__ import annotations

import asyncio

from gateway.call import Request
from gateway.errors import Kind
from gateway.wire.arrival import Arrival
from gateway.wire.attempts import Sent, send
from tests.harness.messages import request
from tests.harness.raw_client import connected
from tests.harness.scripted import ScriptedUpstream
from tests.unit.wire.test_front import listening
from tests.unit.wire.test_pool import pool_to
from tests.unit.wire.test_relay_limits import Watcher

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_a_cancelled_exchange_is_over_and_told_of() -> None:
    """What has come is in the account of the call, the upstream is left, and the client sees that the rest is missing."""
    async with ScriptedUpstream() as upstream:
        upstream.answer = (HEAD, b"5\r\nfirst\r\n", 60.0)
        pool, told = pool_to(upstream.port), asyncio.get_running_loop().create_future()

        async def sending(arrival: Arrival) -> None:
            task = asyncio.current_task()
            assert task is not None
            asked = Request(arrival.method, "/v1/models", arrival.headers, arrival.fields, "up", "openai", "/v1/models")
            asyncio.get_running_loop().call_later(0.2, task.cancel)
            told.set_result(await send(arrival, asked, pool, Watcher(), drain_bytes=0))  # type: ignore[arg-type]

        async with listening(sending) as front, connected(front.port) as client:
            await client.send(request("GET", "/v1/models"))
            answer = await client.answer()
            sent: Sent = await told
        assert (answer.body.whole, answer.body.content) == (False, b"first")
        assert sent.failure is not None
        assert sent.relay is not None
        assert (sent.failure.kind, sent.relay.response_bytes) == (Kind.SHUTTING_DOWN, 5)
        assert (pool.idle, pool.busy) == (0, 0)
