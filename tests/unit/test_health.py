"""Checks in the background: what they found is told at once, and nothing that hangs is waited for twice."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from gateway import checks
from gateway.health import STALE_PERIODS, Check, Health, InThread, Reading

SHORT_S = 0.02


async def until(true: Any) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


class Scripted:
    """A check that answers as it is told, and counts."""

    def __init__(self) -> None:
        self.asked = 0
        self.reading = Reading("ok", 5, "MiB")
        self.error: Exception | None = None
        self.hangs: asyncio.Event | None = None
        self.stubborn = False

    async def __call__(self) -> Reading:
        self.asked += 1
        while self.hangs is not None and not self.hangs.is_set():
            try:
                await self.hangs.wait()
            except asyncio.CancelledError:
                if not self.stubborn:
                    raise
        if self.error is not None:
            raise self.error
        return self.reading

    def health(self, every_s: float = SHORT_S, **more: Any) -> Health:
        return Health([Check("part", "component", self)], every_s=every_s, timeout_s=SHORT_S, **more)


async def test_a_first_round_is_over_when_the_checks_have_started() -> None:
    """Nobody is told of a state that was never looked at; before that it is honest about it."""
    part = Scripted()
    health = part.health(every_s=3600)
    assert health.told()["part"]["status"] == "failed"
    await health.start()
    told = health.told()["part"]
    assert (told["status"], told["observedValue"], told["observedUnit"], told["componentType"]) == (
        "ok",
        5,
        "MiB",
        "component",
    )
    assert told["time_ms"] >= 0
    assert told["time"].endswith("Z")
    assert part.asked == 1
    await health.stop()


async def test_what_changes_is_seen_with_the_next_round() -> None:
    """Failed, warned, raised, and well again."""
    part = Scripted()
    health = part.health()
    await health.start()
    part.reading = Reading("failed", says="no room")
    await until(lambda: health.told()["part"].get("output") == "no room")
    assert health.up() == {"part": False}
    part.reading = Reading("warn", says="hardly any")
    await until(lambda: health.told()["part"]["status"] == "warn")
    assert health.up() == {"part": True}
    part.error = ValueError("zq-what-was-said")
    await until(lambda: health.told()["part"]["status"] == "failed")
    assert health.told()["part"]["output"] == "does not answer (ValueError)"
    part.error, part.reading = None, Reading()
    await until(lambda: health.told()["part"]["status"] == "ok")
    await health.stop()


@pytest.mark.parametrize("stubborn", [False, True])
async def test_a_check_that_hangs_has_failed_and_is_not_asked_again_meanwhile(*, stubborn: bool) -> None:
    """One that does not even let itself be cancelled piles nothing up, and its late answer counts."""
    part = Scripted()
    part.hangs, part.stubborn = asyncio.Event(), stubborn
    health = part.health()
    await health.start()
    assert "no answer" in health.told()["part"]["output"]
    rounds = [health._found["part"]]
    await until(
        lambda: health._found["part"] is not rounds[-1] and (rounds.append(health._found["part"]) or len(rounds) > 4)
    )
    assert health.told()["part"]["status"] == "failed"
    assert part.asked == 1 or not stubborn
    part.hangs.set()
    await until(lambda: health.told()["part"]["status"] == "ok")
    await health.stop()


async def test_a_result_that_is_too_old_has_failed() -> None:
    """Whatever it was: the checks themselves may be what stopped."""
    now = [0.0]
    health = Scripted().health(every_s=5, clock=lambda: now[0])
    await health.look("part")
    now[0] += STALE_PERIODS * 5
    assert health.told()["part"]["status"] == "ok"
    now[0] += 0.1
    assert health.told()["part"]["status"] == "failed"
    assert "stale" in health.told()["part"]["output"]
    await health.stop()


async def test_a_disk_that_hangs_holds_up_one_thread_and_nothing_else() -> None:
    """The loop goes on, no second thread is begun, and the end of the process does not wait for it."""
    go_on = threading.Event()
    begun: list[threading.Thread] = []

    def measure() -> Reading:
        begun.append(threading.current_thread())
        go_on.wait(20)
        return Reading("ok")

    health = Health([Check("disk", "system", InThread(measure))], every_s=SHORT_S, timeout_s=SHORT_S)
    await health.start()
    await until(lambda: "come back" in health.told()["disk"].get("output", ""))
    assert health.told()["disk"]["status"] == "failed"
    assert (len(begun), begun[0].daemon) == (1, True)
    go_on.set()
    await until(lambda: health.told()["disk"]["status"] == "ok")
    began = time.monotonic()
    await health.stop()
    assert time.monotonic() - began < 5


async def test_what_a_thread_raises_is_a_failure() -> None:
    """As everywhere."""

    def measure() -> Reading:
        raise OSError(5, "zq")

    health = Health([Check("disk", "system", InThread(measure))])
    await health.look("disk")
    assert health.told()["disk"]["output"] == "does not answer (OSError)"
    await health.stop()


# -- what is checked ---------------------------------------------------------------------------------------------------------


async def found(check: Check) -> tuple[str, Any]:
    reading = await check.ask()
    assert (reading.status == "ok") == (not reading.says)
    return reading.status, reading.observed


async def test_a_disk_is_measured_where_the_folder_will_be(tmp_path: Path) -> None:
    """A journal's folder is made at the start; too little room is a failure, hardly more a warning."""
    place = tmp_path / "not" / "there"
    status, free_mb = await found(checks.disk(place, 0))
    assert status == "ok"
    assert free_mb > 0
    assert (await found(checks.disk(place, 1 << 30)))[0] == "failed"
    assert (await found(checks.disk(place, int(free_mb * 0.95))))[0] == "warn"


async def test_memory_is_held_against_its_bound() -> None:
    """That of this process: a Python has more than a megabyte and less than a terabyte."""
    assert (await found(checks.memory(0)))[0] == "ok"
    assert (await found(checks.memory(1)))[0] == "failed"
    status, used_mb = await found(checks.memory(1 << 20))
    assert (status, 10 < used_mb < 1 << 20) == ("ok", True)
    assert (await found(checks.memory(used_mb + 1)))[0] in ("warn", "failed")


@pytest.mark.parametrize(
    ("states", "required", "status"),
    [
        ((), True, "ok"),
        (("unknown", "unknown"), True, "ok"),
        (("up", "failing"), True, "warn"),
        (("failing", "failing", "unknown"), True, "failed"),
        (("failing",), True, "failed"),
        (("failing",), False, "warn"),
        (("up", "unknown"), True, "ok"),
    ],
)
async def test_only_when_all_that_were_called_fail_nothing_can_be_served(
    states: tuple[str, ...], status: str, *, required: bool
) -> None:
    """And only where the operator wants that."""
    named = {str(number): state for number, state in enumerate(states)}
    assert await found(checks.upstreams(lambda: named, required=required)) == (status, states.count("failing"))


async def test_exporters_and_config_only_warn() -> None:
    """They are no reason to take a gateway that serves out of service."""
    assert await found(checks.exporters(lambda: ["traces"])) == ("warn", 1)
    assert await found(checks.exporters(list)) == ("ok", 0)
    assert await found(checks.config(lambda: "2026-11-21T00:00:00Z")) == ("warn", "2026-11-21T00:00:00Z")
    assert await found(checks.config(str)) == ("ok", None)


async def test_a_store_is_asked() -> None:
    """What it owes is shown; an error's words are not."""

    async def well() -> None:
        return

    async def ill() -> None:
        raise ConnectionError("redis://user:zq@host")

    assert (await found(checks.store(well, lambda: 0)))[0] == "ok"
    assert await found(checks.store(well, lambda: 3)) == ("warn", 3)
    assert await found(checks.store(ill, lambda: 3)) == ("failed", 3)
    assert "zq" not in str(await checks.store(ill, lambda: 3).ask())


@pytest.mark.parametrize(
    ("url", "folder"),
    [("sqlite:///b.db", ""), ("sqlite:////a/b/c.db", "/a/b"), ("redis://h:1", "j"), ("sqlite:///:memory:", None)],
)
def test_the_disk_is_that_of_the_file_or_the_journal(url: str, folder: str | None) -> None:
    """Relative ones lie in the folder of the process."""
    place = checks.folder_of(url, "j")
    assert place.is_absolute()
    assert folder is None or place == Path(folder).absolute()


async def test_whoever_wants_to_hear_each_finding_does(caplog: pytest.LogCaptureFixture) -> None:
    """Those of a probe or a scrape as well; a listener that stumbles ends no round."""
    part, heard = Scripted(), list[tuple[str, str]]()

    def listen(name: str, reading: Reading) -> None:
        heard.append((name, reading.status))
        raise ValueError

    health = part.health(every_s=3600, heard=listen)
    await health.start()
    part.reading = Reading("failed", says="no room")
    assert (await health.look("part")).status == "failed"
    part.hangs = asyncio.Event()
    await health.look("part")
    assert heard == [("part", "ok"), ("part", "failed"), ("part", "failed")]
    await health.stop()
