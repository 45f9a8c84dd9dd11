"""A Redis of the test's own, which can be killed, frozen and emptied."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.redis_servers import Server, redis_binary


@pytest.fixture(params=[()], ids=["memory"])
def server(request) -> Iterator[Server]:
    """One that keeps nothing on its disk, unless a test asks for options."""
    binary = redis_binary()
    if binary is None:
        pytest.skip("there is no Redis server on this machine")
    running = Server(binary, *request.param)
    yield running
    running.close()
