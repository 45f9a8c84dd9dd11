"""The hand-over between the event loop and the file, and what only this store has."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import sys
import time
from pathlib import Path

import pytest

from gateway.accounts import Account, Claim, Hold
from gateway.errors import Failure, Kind
from gateway.store import Settlement, sqlite
from gateway.store.sqlite import SqliteStore
from gateway.store.tables import MAX_LOG_PAGES

A = Account("a", "day")


def store_at(path: Path | str, **options: object) -> SqliteStore:
    return SqliteStore(
        str(path), **{"lease_s": 60.0, "durability": "normal", "retention_s": 1e10, "owner": "me", **options}
    )  # type: ignore[arg-type]


@pytest.fixture
async def store(tmp_path):
    made = store_at(tmp_path / "books.db")
    await made.open()
    yield made
    await made.close()


async def test_memory_leaves_nothing_behind():
    """Books for a demonstration: all promises, no file afterwards."""
    store = store_at(":memory:")
    await store.open()
    assert isinstance(await store.reserve("c", [Claim(A, 1)]), Hold)
    folder = Path(store._folder.name)
    assert folder.is_dir()
    await store.close()
    assert not folder.exists()


async def test_what_cannot_be_opened_is_a_failure_without_a_path(tmp_path):
    """A folder that is missing, a file that is no database, a damaged one."""
    (tmp_path / "text").write_text("no database at all, but long enough to have a header " * 20)
    for path, word in ((tmp_path / "missing" / "books.db", "opened"), (tmp_path / "text", "not a database")):
        store = store_at(path)
        with pytest.raises(Failure, match=word) as failure:
            await store.open()
        assert failure.value.kind is Kind.STORE_UNAVAILABLE
        assert str(tmp_path) not in failure.value.message
        await store.close()


async def test_a_later_versions_file_is_a_failure(store, tmp_path):
    """And the connection to it is closed again."""
    await store.reserve("first", [])  # the upkeep of the start is over when this is answered
    store._writer._connection.execute("PRAGMA user_version=99")
    with pytest.raises(Failure, match="later version"):
        await store_at(tmp_path / "books.db", owner="two").open()


async def test_a_damaged_file_is_a_failure_and_not_an_answer(tmp_path):
    """Neither zero nor an exception that nobody above knows."""
    path = tmp_path / "books.db"
    store = store_at(path)
    await store.open()
    for number in range(400):
        await store.settle(Settlement(f"c{number}", 1, "completed", (A,), b'{"x": "' + b"y" * 400 + b'"}', str(number)))
    await store.close()
    whole = path.read_bytes()
    schema = 131_072  # where every table has its first page
    path.write_bytes(whole[:schema] + b"\xaa" * (len(whole) - schema))
    store = store_at(path)
    await store.open()
    with pytest.raises(Failure, match="damaged"):
        await store.recent(1000)
    with pytest.raises(Failure, match="damaged"):
        await asyncio.gather(
            *(store.settle(Settlement(f"d{n}", 1, "completed", (A,), b"{}", str(n))) for n in range(200))
        )
    await store.close()


async def test_reading_does_not_wait_for_writing(store):
    """A writer in the middle of a transaction is no obstacle; it sees what was committed."""
    await store.reserve("c", [Claim(A, 1)])
    writing = store._writer._connection
    writing.execute("BEGIN IMMEDIATE")
    writing.execute("UPDATE accounts SET held = 99")
    try:
        assert (await store.read([A]))[0].held_nanousd == 1
    finally:
        writing.execute("ROLLBACK")


async def test_a_busy_loop_does_not_starve_the_writer(store):
    """A loop that is never idle gives the GIL up for microseconds only; without making way a batch took half a minute."""
    stop = False

    async def busy() -> None:
        while not stop:
            end = time.perf_counter() + 0.002
            while time.perf_counter() < end:
                pass
            await asyncio.sleep(0)

    task = asyncio.create_task(busy())
    async with asyncio.timeout(30):
        for round_ in range(20):
            await asyncio.gather(*(store.reserve(f"{round_}-{number}", [Claim(A, 1)]) for number in range(20)))
    stop = True
    await task
    assert (await store.read([A]))[0].held_nanousd == 400


async def test_a_slow_disk_does_not_stop_the_loop(store, monkeypatch):
    """While a batch waits for a lock the loop makes way ever more seldom, and goes on in between."""
    await store.reserve("first", [])  # the upkeep of the start is over when this is answered
    monkeypatch.setattr(sqlite, "MAKE_WAY_SELDOM_S", 0.004)
    writing = store._writer._connection
    blocker = sqlite.connect(store._path, "normal", write=True)
    blocker.execute("BEGIN IMMEDIATE")
    asked = asyncio.ensure_future(store.reserve("c", [Claim(A, 1)]))
    for _ in range(20):
        await asyncio.sleep(0.002)
        assert not asked.done()
    blocker.execute("ROLLBACK")
    blocker.close()
    assert isinstance(await asked, Hold)
    assert not writing.in_transaction


async def test_the_clock_of_the_books_can_be_given(tmp_path):
    """Leases and records of lost calls take their time from it."""
    store = store_at(tmp_path / "books.db", clock=lambda: 1795219200.0)
    await store.open()
    await store.reserve("c", [Claim(A, 1)])
    await store.close()
    store = store_at(tmp_path / "books.db", clock=lambda: 1795219200.0)
    await store.open()
    async with asyncio.timeout(30):
        while (record := await store.find("c")) is None:
            await asyncio.sleep(0.01)
    await store.close()
    assert record["started_at"] == "2026-11-21T00:00:00.000Z"


def test_a_loop_that_is_gone_has_nobody_waiting(tmp_path):
    """A process that ends without closing the store still ends."""

    async def leave() -> SqliteStore:
        made = store_at(tmp_path / "books.db")
        await made.open()
        return made

    made = asyncio.run(leave())
    made._answers([])
    made._writer.stop()
    made._writer.join(30)
    made._reading.shutdown()
    made._reader.close()


async def test_what_was_written_gets_into_the_file_without_the_writer(store, tmp_path, monkeypatch):
    """The reading thread moves the log: no commit has to, until the log is 64 MB long."""
    monkeypatch.setattr(sqlite, "CHECKPOINT_S", 0.02)
    store._plan_checkpoint()
    await store.settle(Settlement("c", 1, "completed", (A,), b"{}", "2026-11-21T00:00:00.000Z"))
    async with asyncio.timeout(20):
        while not in_the_file_alone(tmp_path / "books.db"):
            await asyncio.sleep(0.02)
    assert store._writer._connection.execute("PRAGMA wal_autocheckpoint").fetchone() == (MAX_LOG_PAGES,)


def in_the_file_alone(path: Path) -> int:
    """Records that somebody sees who does not look at the log."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
        try:
            return connection.execute("SELECT count(*) FROM records").fetchone()[0]
        except (
            sqlite3.DatabaseError
        ):  # no table yet, or a log that is being moved as we look  # even the tables are in the log
            return 0


async def test_many_processes_begin_a_file_at_once(tmp_path):
    """Each finds it in some half-made state: none of them gives up for that."""
    script = (
        "import asyncio, sys\nfrom gateway.store.sqlite import SqliteStore\n"
        f"store = SqliteStore({str(tmp_path / 'books.db')!r}, lease_s=60, durability='normal', retention_s=1e9, owner=sys.argv[1])\n"
        "async def main():\n    await store.open()\n    await store.close()\nasyncio.run(main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    started = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", script, f"p{number}", env=environment)
        for number in range(8)
    ]
    assert [await process.wait() for process in started] == [0] * 8


async def test_a_price_book_that_is_kept_is_not_packed_again(store):
    """Packing takes 10 ms, and a gateway that starts again has mostly kept its book before."""

    packed = []

    def pack() -> bytes:
        packed.append(1)
        return b"packed"

    writer = sqlite3.connect(store._file, isolation_level=None)
    with contextlib.closing(writer):
        writer.execute("BEGIN IMMEDIATE")
        first = asyncio.create_task(store.keep_book("v1", pack))
        await asyncio.sleep(0.1)
        assert not first.done(), "the file is locked"
        writer.execute("ROLLBACK")
        await first
    await store.keep_book("v1", pack)
    assert len(packed) == 1
    assert await store._look(lambda connection: connection.execute("SELECT version, packed FROM books").fetchall()) == [
        ("v1", b"packed")
    ]
