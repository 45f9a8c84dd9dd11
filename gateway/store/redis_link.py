"""The connection to Redis: a URL becomes a client, foreign errors become failures, a life of the server gets a name.

Standalone (``redis://``, ``rediss://`` with TLS, ``unix://``), Sentinel (``redis+sentinel://host:port,host:port/service/db``) and
Cluster (``redis+cluster://``). redis-py is imported only here, and only where a config names such a store: it takes 24 MB.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

import redis.asyncio as client
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from gateway.errors import Failure, Kind, Whose

FAULTS: tuple[tuple[type[Exception], str], ...] = (
    (ReadOnlyError, "may not be written: it is a replica"),
    (OutOfMemoryError, "has no memory left (maxmemory, noeviction)"),
    (NoPermissionError, "does not let this user do what is needed: see the docs for its ACL"),
    (AuthenticationError, "does not know this user or password"),
    (TimeoutError, "does not answer in time"),
    (client.TimeoutError, "does not answer in time"),
)
ERRORS = (RedisError, OSError, TimeoutError)
MIN_VERSION = (7, 0)


class Lost(Exception):  # noqa: N818 - what has happened to the books
    """These are not the books that were confirmed. ``stale``: of the same life, and behind."""

    def __init__(self, *, stale: bool) -> None:
        super().__init__("the books are not the ones that were confirmed")
        self.stale = stale


class Link:
    """``run`` names the life of the server that answered last; "" where the server has no name for it (a cluster)."""

    def __init__(
        self, url: str, timeout_s: float, *, username: str = "", password: str = "", ca_file: str = ""
    ) -> None:
        self._url = url
        self.timeout_s = timeout_s
        self._options: dict[str, Any] = {
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "protocol": 2,
            "health_check_interval": 0,
        }
        self._options |= {"username": username} if username else {}
        self._options |= {"password": password} if password else {}
        self._tls = "rediss" in url.partition(":")[0]
        if self._tls and ca_file:
            self._options["ssl_ca_certs"] = ca_file
        self.is_cluster = "+cluster:" in url
        self.run = ""
        self._source = (resources.files("gateway.store") / "redis_books.lua").read_text()
        self._sha = ""
        self._client: Any = None
        self._sentinel: Any = None

    @property
    def is_open(self) -> bool:
        """Whether it has been connected once."""
        return bool(self._sha)

    async def open(self) -> None:
        """Connect, look at the version, load the script."""
        if self._client is None:
            self._client = self._make()
        found = await self._client.info("server")
        told = next(iter(found.values())) if found and all(isinstance(each, dict) for each in found.values()) else found
        version = tuple(int(part) for part in str(told.get("redis_version", "0")).split(".")[:2])
        if version < MIN_VERSION:
            raise Failure(Kind.STORE_UNAVAILABLE, Whose.OURS, "The store needs Redis 7.0 or Valkey, or later.")
        self._sha = await self._client.script_load(self._source)

    async def close(self) -> None:
        """Disconnect. A second time changes nothing."""
        if self._client is not None:
            await self._client.aclose()
        if self._sentinel is not None:
            for each in self._sentinel.sentinels:
                await each.aclose()
        self._client = self._sentinel = None

    @property
    def commands(self) -> Any:
        """The client itself, for plain commands."""
        return self._client

    async def books(self, keys: Sequence[str], arguments: Sequence[bytes]) -> list[list[bytes]]:
        """One run of the script."""
        try:
            answers: list[list[bytes]] = await self._client.evalsha(self._sha, len(keys), *keys, *arguments)
        except NoScriptError:
            answers = await self._client.eval(self._source, len(keys), *keys, *arguments)
        return answers

    async def many(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Plain commands in one go, where it does no harm that some of them fail or are seen half done."""
        pipe = self._client.pipeline(transaction=False)
        for name, *arguments in commands:
            getattr(pipe, name)(*arguments)
        found: list[Any] = await pipe.execute()
        return found

    # -- making a client ----------------------------------------------------------------------------------------------

    def _make(self) -> Any:
        if self.is_cluster:
            return self._cluster()
        options = self._options | {"retry": Retry(NoBackoff(), 0), "redis_connect_func": self._connected}
        if "+sentinel:" in self._url:
            return self._by_sentinel(options)
        return client.Redis.from_url(self._url, **options)

    def _cluster(self) -> Any:
        nodes = [ClusterNode(host, port) for host, port in _hosts(urlsplit(self._url).netloc, 6379)]
        return RedisCluster(startup_nodes=nodes, ssl=self._tls, **self._options)

    def _by_sentinel(self, options: dict[str, Any]) -> Any:
        url = urlsplit(self._url)
        service, _, database = url.path.strip("/").partition("/")
        hosts = _hosts(url.netloc, 26379)
        own = {name: self._options[name] for name in ("socket_timeout", "socket_connect_timeout")}
        self._sentinel = Sentinel(hosts, sentinel_kwargs=own)  # type: ignore[no-untyped-call]
        return self._sentinel.master_for(service or "mymaster", db=int(database or 0), ssl=self._tls, **options)

    async def _connected(self, connection: Any) -> None:
        """Each new connection says which life of the server it leads to: what was booked in another one may be gone."""
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        text = await connection.read_response()
        lines = (text if isinstance(text, bytes) else str(text).encode()).split(b"\r\n")
        found = next((line[7:].decode() for line in lines if line.startswith(b"run_id:")), "")
        self.run = found or "unnamed"


def as_failure(error: BaseException) -> Failure:
    """Redis's errors in the words of the house. No address: it may name what is nobody's business."""
    for kind, meaning in FAULTS:
        if isinstance(error, kind):
            return Failure(Kind.STORE_UNAVAILABLE, Whose.OURS, f"The store {meaning}.", may_retry=True)
    if isinstance(error, ResponseError):
        text = str(error).partition(" ")[0][:20]
        return Failure(Kind.STORE_UNAVAILABLE, Whose.OURS, f"The store refuses what was asked of it ({text}).")
    return Failure(Kind.STORE_UNAVAILABLE, Whose.OURS, "The store cannot be reached.", may_retry=True)


def _hosts(text: str, port: int) -> list[tuple[str, int]]:
    found = []
    for each in text.split(","):
        host, _, own = each.rpartition(":")
        found.append((host.strip("[]"), int(own)) if host and own.isdigit() else (each.strip("[]"), port))
    return found
