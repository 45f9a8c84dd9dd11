"""A pool: connections that nobody waits for any more, and what is kept of them."""

from __future__ import annotations

import asyncio
import gc
import warnings

from gateway.wire.attempts import _connect
from gateway.wire.endpoint import Endpoint
from gateway.wire.upstreams import Pool
from tests.harness.gateways import free_port
from tests.harness.scripted import ScriptedUpstream


def pool_to(port: int) -> Pool:
    return Pool(
        Endpoint(
            name="up", provider="openai", protocol="openai", host="127.0.0.1", port=port, tls=False,
            host_header=b"up", base_path="", credential=None, verify_tls=True, ca_file="", connect_s=5, first_byte_s=0,
            idle_s=0, keepalive_s=15, max_idle=8,
        )
    )  # fmt: skip


class Leaver:
    """What ``_connect`` sees of a client."""

    def __init__(self) -> None:
        self.leave = lambda: None

    def on_leaving(self, call: object) -> None:
        self.leave = call or (lambda: None)  # type: ignore[assignment]


async def test_a_connection_whose_client_has_left_is_kept_for_the_next_call() -> None:
    """At whatever moment of its making that was: nothing is left open that nobody knows of."""
    async with ScriptedUpstream() as upstream:
        for ticks in range(12):
            pool, client = pool_to(upstream.port), Leaver()
            task = asyncio.ensure_future(_connect(client, pool))  # type: ignore[arg-type]
            for _ in range(ticks):
                await asyncio.sleep(0)
            client.leave()
            await asyncio.gather(task, return_exceptions=True)
            async with asyncio.timeout(30):
                while not (pool.idle or pool.busy):
                    await asyncio.sleep(0)
            assert pool.idle + pool.busy == 1
            pool.close()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            gc.collect()


async def test_a_connection_that_fails_when_nobody_waits_concerns_nobody() -> None:
    """No line in the log, nothing in the pool."""
    loop = asyncio.get_running_loop()
    told: list[object] = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    pool, client = pool_to(free_port()), Leaver()
    task = asyncio.ensure_future(_connect(client, pool))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    client.leave()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0.05)
    gc.collect()
    assert (told, pool.idle, pool.busy) == ([], 0, 0)
