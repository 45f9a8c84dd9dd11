"""The benchmarks say what is so: a gate that closes, a load that leaves nothing out, a report that judges by its bars."""

from __future__ import annotations

import asyncio
import importlib
import json
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.loading import load as read
from tests.harness.gateways import ROOT

FOLDER = ROOT / "benchmarks"


def module(name: str) -> ModuleType:
    """One of the modules of ``benchmarks``, which import each other as programs of one folder do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        return importlib.import_module(name)


verdict, load, bars, report, gate = map(module, ("verdict", "load", "bars", "report", "gate"))
around, gateways, instructions = map(module, ("around", "gateways", "instructions"))
LIMITS = verdict.limits({"call": {"ratio": 2.0, "allowance": 0.1}, "event": {"ratio": 1.0, "allowance": 0.2}})


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ({"call": 1.2, "event": 0.4}, []),
        ({"call": 2.2, "event": 1.2}, []),
        ({"call": 2.21, "event": 1.0}, ["call"]),
        ({"call": 2.0, "event": 1.21}, ["event"]),
        ({"call": 2.0}, ["event"]),
        ({"call": float("nan"), "event": 1.0}, ["call"]),
    ],
    ids=["faster", "at the limit", "a slower call", "a slower event", "not measured", "no number"],
)
def test_the_gate_closes_beyond_a_limit(ratios: dict[str, float], expected: list[str]) -> None:
    """And for what was not measured; noise within the allowance passes."""
    assert verdict.beyond(ratios, LIMITS) == expected


def test_a_gateway_that_is_slowed_down_is_seen_through_noise() -> None:
    """Each round is a pair that met the same noise: a machine at half its speed in some rounds changes no ratio."""
    noise = (1.0, 2.0, 1.1, 1.0, 1.7)
    rounds = [(100 * times, 50 * times) for times in noise]
    assert verdict.ratio(rounds) == 2.0
    assert verdict.beyond({"call": verdict.ratio(rounds), "event": 1.0}, LIMITS) == []
    slowed = [(ours + 30 * times, other) for (ours, other), times in zip(rounds, noise, strict=True)]
    assert verdict.beyond({"call": verdict.ratio(slowed), "event": 1.0}, LIMITS) == ["call"]


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        ([{"call": 2.0, "event": 1.0}], []),
        ([{"call": 3.0, "event": 1.0}, {"call": 2.1}], []),
        ([{"call": 3.0, "event": 1.0}, {"call": 2.3}], ["call"]),
        ([{"call": 3.0, "event": 2.0}, {"call": 2.0, "event": 2.0}], ["event"]),
        ([{}, {}], ["call", "event"]),
    ],
    ids=["within", "noise", "slower", "one of two", "nothing measured"],
)
def test_what_is_slower_is_so_twice(attempts: list[dict[str, float]], expected: list[str]) -> None:
    """Only what was beyond its limit is measured again; both numbers of each are said."""
    said: list[str] = []
    coming, asked = iter(attempts), []

    def measure(names: list[str]) -> dict[str, float]:
        asked.append(list(names))
        return next(coming)

    assert verdict.passed(measure, LIMITS, said.append) == expected
    assert len(asked) == len(attempts)
    assert asked[1:] == [verdict.beyond(attempts[0], LIMITS)] * (len(attempts) - 1)
    assert any("call: 2.00x (limit 2.20x" in each for each in said) == any(each.get("call") == 2.0 for each in attempts)


def test_the_gate_measures_what_the_limits_name() -> None:
    """A limit under a name that nothing measures would always be passed, a measure without one never."""
    assert set(verdict.limits(json.loads((FOLDER / "limits.json").read_text()))) == set(gate.MEASURES)


def test_instructions_are_those_of_all_threads() -> None:
    """Twice the work is twice as many, whoever does it and however busy the machine is."""
    try:
        counter = instructions.Counter()
    except OSError as error:
        pytest.skip(str(error))
    taken = []
    for loops, threaded in ((200_000, False), (400_000, False), (400_000, True)):
        before, work = counter.read(), lambda loops=loops: sum(range(loops)) and [0 for _ in range(loops)]
        if threaded:
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        else:
            work()
        taken.append(counter.read() - before)
    counter.close()
    assert 1.8 < taken[1] / taken[0] < 2.2
    assert 0.8 < taken[2] / taken[1] < 1.2


@pytest.mark.parametrize("limit", [{"ratio": 0, "allowance": 0.1}, {"ratio": 2, "allowance": -1}])
def test_a_limit_that_is_none_is_refused(limit: dict[str, float]) -> None:
    """Before anything is measured."""
    with pytest.raises(ValueError, match="a ratio is above 0"):
        verdict.limits({"call": limit})


def test_everything_on_is_on_and_each_form_can_be_started(tmp_path: Path) -> None:
    """A key that is renamed, or a default that is turned round, would quietly make the figures those of something else."""
    forms = gateways.forms(around.Around(tmp_path, 1001, 1002, 1003, around.self_signed(tmp_path), 1004))
    configs = {name: read(Path(make().command[-1]), {}) for name, make in forms.items()}
    ours = configs[gateways.OURS]
    assert [budget.scope for budget in ours.budgets] == ["global", "team:*", "user:*", "agent:*", "model:*"]
    seen = ours.observability
    assert (seen.enabled, seen.tracing.enabled, seen.tracing.sample_rate) == (True, True, 0.1)
    assert (seen.logging.format, seen.logging.sample_rate, ours.store.url.partition(":")[0]) == ("json", 1.0, "sqlite")
    assert configs[gateways.ON_REDIS] != ours
    assert configs[gateways.ON_REDIS].budgets == ours.budgets
    assert not configs[gateways.OFF].observability.enabled
    assert set(gateways.VARIANTS) <= set(configs)


class Stalling(asyncio.Protocol):
    """Answers at once, but to nobody for a while."""

    until = 0.0
    left = 2

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        Stalling.left -= 1

    def data_received(self, data: bytes) -> None:
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
        asyncio.get_running_loop().call_at(self.until, self.transport.write, answer)


async def test_a_call_that_could_not_be_sent_is_late_all_the_same() -> None:
    """Open loop: two connections of which none is free for most of a second. Of those that wait for one every second call or more is
    late by what it waited; a load that counts from the sending sees two late ones.
    """
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Stalling, "127.0.0.1", 0)
    Stalling.until = loop.time() + 0.7
    found = await load.rate(server.sockets[0].getsockname()[1], "/v1/chat/completions", 200, 0.8, connections=2)
    server.close()
    while Stalling.left:
        await asyncio.sleep(0.01)
    assert found["requests"] == 160
    assert found["p50_us"] > 100_000


class Wire:
    """What a client writes goes nowhere."""

    def write(self, data: bytes) -> None:
        """Takes it."""


EVENTS = b"".join(b'1b\r\ndata: {"content":" %d"}\n\n\r\n' % (1000 + number) for number in range(4))
EVENTS += b'15\r\ndata: {"content":" 10\r\n6\r\n04"}\n\n\r\n'
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nx-correlation-id: 10\r\n\r\n" + EVENTS + b"0\r\n\r\n"


@given(cuts=st.sets(st.integers(1, len(STREAM) - 1)))
def test_the_load_counts_each_event_once_however_reads_cut_it(cuts: set[int]) -> None:
    """A stamp in two reads is one stamp, with all its digits; the end is seen once."""
    loop, ended = asyncio.new_event_loop(), []
    client = load.Client(lambda _, now: ended.append(now), loop.create_future())
    client.connection_made(Wire())
    client.stamps = []
    client.ask(b"")
    began = time.monotonic_ns()
    for begin, end in pairwise([0, *sorted(cuts), len(STREAM)]):
        client.data_received(STREAM[begin:end])
    loop.close()
    assert (client.events, len(client.stamps), len(ended)) == (5, 5, 1)
    assert all(began - 1004 <= stamp for stamp in client.stamps)


def test_the_inside_of_a_call_is_measured_by_the_code_that_serves() -> None:
    """Whatever it reaches into is still there, and every call is booked."""
    command = [sys.executable, str(ROOT / "benchmarks" / "inside.py"), "--calls", "64"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    whole, alone = [float(line.partition("median ")[2].split()[0]) for line in done.stdout.splitlines()]
    assert 0 < alone < whole


def one(value: float) -> dict[str, dict[str, dict[str, float]]]:
    """A run in which ours costs ``value`` of what bare aiohttp costs, and nothing else was measured."""
    return {"cpu_1kb": {"tollgate": {"cpu_us": 100 * value}, "bare aiohttp": {"cpu_us": 100.0}}}


@pytest.mark.parametrize(("value", "word"), [(0.6, "met"), (0.61, "**missed**")])
def test_a_bar_is_judged_as_it_is(value: float, word: str) -> None:
    """And what a run has not measured is not met."""
    words = {each.bar.what: each.word for each in bars.judge(one(value))}
    assert words.pop("CPU per 1 KB call, SQLite, against bare aiohttp") == word
    assert set(words.values()) == {"not measured"}


def test_a_page_gets_figures_in_its_block_and_nowhere_else(tmp_path: Path) -> None:
    """Twice the same leaves the page as it is; a page without the block is an error."""
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- measured: speed -->old<!-- end of speed -->\nafter\n")
    report.into(page, "speed", r"figures \1")
    once = page.read_text()
    report.into(page, "speed", r"figures \1")
    assert page.read_text() == once
    assert once == "before\n<!-- measured: speed -->\n\nfigures \\1\n\n<!-- end of speed -->\nafter\n"
    with pytest.raises(SystemExit, match="has 0 blocks"):
        report.into(page, "workers", "")
