"""Metrics of several processes as one: whatever is counted wherever, the sums are those of one process that counted it all."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.observe.exposition import expose
from gateway.observe.gathered import bury, gathered, leave
from gateway.observe.names import GAUGES, OVER_WORKERS
from gateway.observe.series import Exemplar, counter, gauge, histogram

BOUNDS = (0.1, 1.0)


def families(counts: dict[str, int] = {}, times: list[float] = [], up: float | None = None) -> list[Any]:  # noqa: B006
    """What one process has counted."""
    cost = counter("llm_cost_usd_total", "Dollars spent.", ("team",), per=10**9)
    took = histogram("llm_request_duration_seconds", "How long.", ("team",), BOUNDS)
    states = gauge("llm_upstream_up", "Up.", ("upstream",))
    limits = gauge("llm_budget_limit_usd", "Limit.", ("budget",))
    for team, nanousd in counts.items():
        cost.labels(team).inc(nanousd)
    for seconds in times:
        took.labels("a").observe(seconds)
    if up is not None:
        states.labels("up").value = up
        limits.labels("all").value = up
    return [cost, took, states, limits]


async def text_of(folder: Path, fresh: set[str], own: str = "0-1") -> str:
    found = await gathered(families(), folder, fresh, own)
    return b"".join(expose(found, open_metrics=False)).decode()


COUNTS = st.dictionaries(st.sampled_from(["a", "b", "ü\n"]), st.integers(0, 10**15))
TIMES = st.lists(st.sampled_from([0.0625, 0.125, 0.5, 7.0]), max_size=5)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(COUNTS, TIMES, st.booleans()), min_size=1, max_size=5))
def test_sums_are_those_of_one_process(parts: list[tuple[dict[str, int], list[float], bool]]) -> None:
    """Any number of processes, any of them gone: the same text as of one that counted everything, whenever somebody asks."""

    async def play() -> None:
        whole: dict[str, int] = {}
        times: list[float] = []
        with TemporaryDirectory() as name:
            folder, present = Path(name), set()
            for number, (counts, seconds, stays) in enumerate(parts):
                await leave(families(counts, seconds), folder, f"{number}-1")
                for team, nanousd in counts.items():
                    whole[team] = whole.get(team, 0) + nanousd
                times += seconds
                present |= {f"{number}-1"} if stays else set()
                await bury(families(), folder, present)
                alone = b"".join(expose(families(whole, times), open_metrics=False)).decode()
                assert sorted((await text_of(folder, present)).splitlines()) == sorted(alone.splitlines())
            left = {path.name for path in folder.iterdir()} - {"gone.counts"}
            assert left == {f"{number}.counts" for number in present}

    asyncio.run(play())


async def test_a_process_that_dies_while_dead_ones_are_added_up_is_counted_once(tmp_path: Path) -> None:
    """The sum is written before the files are removed: what stands in it is not read again."""
    await leave(families({"a": 5}), tmp_path, "1-1")
    kept = (tmp_path / "1-1.counts").read_bytes()
    await bury(families(), tmp_path, set())
    (tmp_path / "1-1.counts").write_bytes(kept)  # as if it could not be removed any more
    assert 'team="a"} 5e-09' in await text_of(tmp_path, set())
    await bury(families(), tmp_path, set())
    assert 'team="a"} 5e-09' in await text_of(tmp_path, set())


async def test_gauges_are_of_those_that_answer_and_follow_their_rule(tmp_path: Path) -> None:
    """An upstream is up where it is for all; what all have in common is the first one's word; who is silent has none."""
    await leave(families(up=1.0), tmp_path, "0-1")
    await leave(families(up=0.0), tmp_path, "1-2")
    await leave(families(up=7.0), tmp_path, "2-3")
    text = await text_of(tmp_path, {"0-1", "1-2"})
    assert 'llm_upstream_up{upstream="up"} 0.0' in text
    assert 'llm_budget_limit_usd{budget="all"} 1.0' in text
    assert 'llm_upstream_up{upstream="up"} 1.0' in await text_of(tmp_path, {"0-1", "2-3"})


async def test_the_newest_exemplar_stands_for_all(tmp_path: Path) -> None:
    """One call a bucket, whichever process served it."""
    for name, at in (("0-1", 2.0), ("1-2", 3.0), ("2-3", 1.0)):
        made = families({"a": 1}, [0.5])
        made[0].labels("a").exemplar = Exemplar(name[0] * 32, 1, at)
        made[1].labels("a").exemplars = {1: Exemplar(name[0] * 32, 0.5, at)}
        await leave(made, tmp_path, name)
    found = await gathered(families(), tmp_path, set(), "0-1")
    text = b"".join(expose(found, open_metrics=True)).decode()
    assert text.count("1" * 32) == 2
    assert "0" * 32 not in text


@pytest.mark.parametrize("name", sorted(OVER_WORKERS))
def test_every_rule_is_of_a_gauge_that_there_is(name: str) -> None:
    """A rule for a name that is written otherwise would be none."""
    assert name in GAUGES
