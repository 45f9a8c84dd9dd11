"""The store that a config names, made: for a gateway that serves, for operators without one, for reading only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gateway.errors import Failure, Kind, Whose
from gateway.loading import rollups_of
from gateway.settings import Settings
from gateway.store.file_desk import FileDesk
from gateway.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from gateway.store.redis import RedisStore
    from gateway.store.redis_archive import RedisArchive
    from gateway.store.redis_desk import RedisDesk
    from gateway.store.redis_link import Link

LEAST_TIMEOUT_S = 0.01
READ_TIMEOUT_S = 30.0


def make_store(settings: Settings, owner: str, *, durability: str = "") -> SqliteStore | RedisStore:
    """The store that the config names; ``owner`` is what this process is called in it."""
    store = settings.store
    durability = durability or store.durability
    if store.url.startswith("sqlite:"):
        return SqliteStore(
            store.url.removeprefix("sqlite:///"),
            lease_s=store.lease,
            durability=durability,
            retention_s=settings.retention.calls,
            owner=owner,
            rollups=rollups_of(settings),
        )
    link = _link(settings, max(store.timeout, LEAST_TIMEOUT_S))
    from gateway.store.journal import Journal  # noqa: PLC0415 - as in ``_link``
    from gateway.store.redis import RedisStore  # noqa: PLC0415
    from gateway.store.redis_script import Times  # noqa: PLC0415

    return RedisStore(
        link,
        prefix=store.prefix,
        lease_s=store.lease,
        on_outage=store.on_outage,
        times=Times(settings.retention.calls, rollups_of(settings)),
        owner=owner,
        journal=Journal(Path(store.journal), sync=durability == "full"),
    )


def make_desk(settings: Settings) -> FileDesk | RedisDesk:
    """The part of the store that the config names where operators decide, without a gateway that runs."""
    store = settings.store
    if store.url.startswith("sqlite:"):
        return FileDesk(store.url.removeprefix("sqlite:///"), store.durability)
    link = _link(settings, max(store.timeout, LEAST_TIMEOUT_S))
    from gateway.store.redis_desk import RedisDesk  # noqa: PLC0415 - as in ``_link``

    return RedisDesk(link, store.prefix)


def redis_archive(settings: Settings) -> RedisArchive:
    """The books in Redis, for reading only."""
    link = _link(settings, READ_TIMEOUT_S)
    from gateway.store.redis_archive import RedisArchive  # noqa: PLC0415 - as in ``_link``

    return RedisArchive(link, settings.store.prefix)


def _link(settings: Settings, timeout_s: float) -> Link:
    """To the Redis that the config names. Its client is imported here: it takes 24 MB that nobody else needs."""
    try:
        from gateway.store.redis_link import Link  # noqa: PLC0415
    except ImportError:
        raise Failure(
            Kind.STORE_UNAVAILABLE, Whose.OURS, "A store in Redis needs its client: pip install 'llm-tollgate[redis]'."
        ) from None
    store = settings.store
    return Link(store.url, timeout_s, username=store.username, password=store.password.reveal(), ca_file=store.ca_file)
