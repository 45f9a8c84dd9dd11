"""Limits, whatever the calls and the clock: never more than the limit and what came back, an exact wait, places that never leak."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sqlite3
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.accounts import PLACES, REQUESTS, TOKENS, UNITS, Hold, Use
from gateway.errors import Failure, Refusal
from gateway.settings import Limit
from gateway.store import Settlement
from gateway.store.books import Extend, Lapse, Operation, Release, Reserve, Settle
from gateway.store.journal import Journal
from gateway.store.limits import PARTS, Levels, OwnLimits, shown, wait
from gateway.store.pages import load, save
from gateway.store.redis import RedisStore
from gateway.store.redis_link import Link
from gateway.store.redis_script import Times
from gateway.store.tables import connect, prepare
from tests.harness.redis_servers import shared

MINUTE_MS = 60_000
SCOPES = ("team:a", "global")


def use(unit: str, allowed: int, amount: int = 1, scope: str = "team:a") -> Use:
    return Use(scope, unit, amount, allowed, scope)


gaps = st.one_of(st.just(0), st.integers(0, 50), st.integers(0, 5_000), st.integers(0, 90_000))


@given(st.integers(1, 40), st.lists(st.tuples(gaps, st.integers(1, 40)), max_size=120))
@settings(max_examples=300, deadline=None)
def test_what_is_let_in_is_bounded_over_every_stretch_of_time(allowed: int, calls: list[tuple[int, int]]) -> None:
    """From any call to any later one: the limit, and what leaks in between. A call that fits within the limit alone is let in
    after the wait that its refusal names, and not a millisecond sooner.
    """
    levels: dict[tuple[str, str], tuple[int, int, int]] = {}
    now, let_in = 1_000_000, []
    for gap, amount in calls:
        now += gap
        asked = use(TOKENS, allowed, amount)
        refusal = Levels(now, levels).in_the_way([asked])
        if refusal is None:
            Levels(now, levels).take([asked])
            let_in.append((now, amount))
        elif amount > allowed:
            assert not refusal.may_retry
        else:
            later = now + refusal.retry_after_ms
            assert Levels(later - 1, levels).in_the_way([asked]) is not None
            assert Levels(later, levels).in_the_way([asked]) is None
    for first, (start, _) in enumerate(let_in):
        total = 0
        for end, amount in let_in[first:]:
            total += amount
            assert total * MINUTE_MS <= allowed * (MINUTE_MS + end - start)


@given(st.integers(1, 200), st.integers(1, 5))
@settings(deadline=None)
def test_a_limit_that_is_always_asked_for_lets_through_what_it_says(allowed: int, minutes: int) -> None:
    """Nothing is lost to rounding, although 60,000 ms are seldom a multiple of it: one burst, and the limit for each minute."""
    levels: dict[tuple[str, str], tuple[int, int, int]] = {}
    asked = use(REQUESTS, allowed)
    now, let_in = 0, 0
    while now <= minutes * MINUTE_MS:
        refusal = Levels(now, levels).in_the_way([asked])
        if refusal is None:
            Levels(now, levels).take([asked])
            let_in += 1
        else:
            now += refusal.retry_after_ms
    assert let_in == allowed * (1 + minutes)


@given(st.integers(1, 10**9), st.integers(0, 10**10), st.integers(0, 10**6))
@settings(deadline=None)
def test_the_wait_is_the_ceiling_of_the_exact_one(allowed: int, used: int, amount: int) -> None:
    """In integers, up to the largest limit that a config can have; never past what Lua's doubles count exactly."""
    asked = use(TOKENS, allowed, min(amount, allowed))
    level = used * PARTS
    over = used + asked.amount - allowed
    assert wait(asked, level) == max(0, -(-over * PARTS // allowed))
    assert shown(asked, level) == used


@given(st.lists(st.tuples(st.integers(-(10**7), 10**6), st.booleans()), max_size=60))
@settings(deadline=None)
def test_a_clock_that_is_set_back_locks_nobody_out(steps: list[tuple[int, bool]]) -> None:
    """Whatever it says, a minute later by the same clock there is room for all."""
    levels: dict[tuple[str, str], tuple[int, int, int]] = {}
    now = 10**9
    asked = use(REQUESTS, 5)
    for step, _ in steps:
        now += step
        current = Levels(now, levels)
        if current.in_the_way([asked]) is None:
            current.take([asked])
    refused = Levels(now, levels).in_the_way([asked])
    if refused is not None:
        assert refused.retry_after_ms <= MINUTE_MS


@given(st.lists(st.tuples(gaps, st.integers(0, 200), st.integers(0, 400)), max_size=40))
@settings(deadline=None)
def test_corrections_leave_what_was_really_used(calls: list[tuple[int, int, int]]) -> None:
    """Each call corrected at once: the bucket is that of one that had known the tokens beforehand."""
    guessed: dict[tuple[str, str], tuple[int, int, int]] = {}
    known: dict[tuple[str, str], tuple[int, int, int]] = {}
    now = 1_000
    for gap, guess, tokens in calls:
        now += gap
        Levels(now, guessed).take([use(TOKENS, 1000, guess)])
        Levels(now, guessed).give_back([use(TOKENS, 1000, guess)], tokens)
        Levels(now, known).take([use(TOKENS, 1000, tokens)])
        assert [level[:2] for level in guessed.values()] == [level[:2] for level in known.values()]


class PlacesMachine(RuleBasedStateMachine):
    """Calls that begin, grow, end, end twice, are released or lapse, in a file: places are those of the holds, always."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.file: sqlite3.Connection = connect(f"{self.folder.name}/books.db", "normal", write=True)
        prepare(self.file)
        self.now = 1000.0
        self.running: dict[str, tuple[str, ...]] = {}
        self.ended: set[str] = set()
        self.lost: set[str] = set()

    def teardown(self) -> None:
        self.file.close()
        self.folder.cleanup()

    def do(self, operation: Operation) -> object:
        page = load(self.file, [operation], self.now, "owner")
        try:
            answer = operation.apply(page)
        except Failure:
            return None
        save(self.file, page)
        return answer

    @rule(
        call=st.integers(0, 7),
        scopes=st.lists(st.sampled_from(SCOPES), max_size=2, unique=True),
        allowed=st.integers(1, 3),
        tokens=st.integers(1, 50),
    )
    def begin(self, call: int, scopes: list[str], allowed: int, tokens: int) -> None:
        name = f"c{call}"
        uses = [use(PLACES, allowed, scope=scope) for scope in scopes] + [
            use(TOKENS, 10**6, tokens, scope) for scope in scopes
        ]
        taken = Counter(scope for held in self.running.values() for scope in held)
        answer = self.do(Reserve(name, (), uses=tuple(uses)))
        if name in self.ended:
            assert answer is None
        elif name in self.running:
            assert isinstance(answer, Hold)
        elif all(taken[scope] < allowed for scope in scopes):
            assert isinstance(answer, Hold)
            self.running[name] = tuple(scopes)
        else:
            assert isinstance(answer, Refusal)

    @rule(call=st.integers(0, 7), tokens=st.one_of(st.none(), st.integers(0, 100)))
    def settle(self, call: int, tokens: int | None) -> None:
        name = f"c{call}"
        self.do(Settle(Settlement(name, 0, "completed", (), b"{}", "2026-11-20T10:00:00.000Z", tokens=tokens)))
        self.running.pop(name, None)
        self.lost.discard(name)
        self.ended.add(name)

    @rule(call=st.integers(0, 7))
    def release(self, call: int) -> None:
        name = f"c{call}"
        self.do(Release(name))
        self.running.pop(name, None)
        if name in self.lost:  # what was charged as lost is taken back: the call may begin once more
            self.lost.remove(name)
            self.ended.remove(name)

    @rule(call=st.integers(0, 7))
    def extend(self, call: int) -> None:
        self.do(Extend(f"c{call}", ()))

    @rule(call=st.integers(0, 7))
    def lapse(self, call: int) -> None:
        if f"c{call}" in self.running:
            self.do(Lapse(f"c{call}"))
            del self.running[f"c{call}"]
            self.ended.add(f"c{call}")
            self.lost.add(f"c{call}")

    @rule(seconds=st.sampled_from([0.001, 1.0, 90.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def places_are_those_of_the_holds(self) -> None:
        taken = Counter(scope for held in self.running.values() for scope in held)
        rows = self.file.execute("SELECT scope, level FROM limits WHERE unit = ?", (PLACES,)).fetchall()
        assert {scope: level for scope, level in rows if level} == dict(taken)
        assert all(level >= 0 for (level,) in self.file.execute("SELECT level FROM limits"))


TestPlaces = PlacesMachine.TestCase
TestPlaces.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.lists(st.tuples(st.integers(0, 30_000), st.booleans()), max_size=80), st.integers(1, 4))
@settings(deadline=None)
def test_processes_on_their_own_let_in_no_more_than_all_of_them_may(
    steps: list[tuple[int, bool]], processes: int
) -> None:
    """Each its part of the limit; at least one call each."""
    clock = [1000.0]
    alone = [OwnLimits(lambda: clock[0]) for _ in range(processes)]
    asked = (use(REQUESTS, 12), use(PLACES, 8))
    running: list[tuple[int, str]] = []
    moments: list[float] = []
    for number, (gap, ends) in enumerate(steps):
        clock[0] += gap / 1000
        if ends and running:
            which, name = running.pop()
            alone[which].give_back(name, None)
            alone[which].give_back(name, None)
        which, name = number % processes, f"c{number}"
        if alone[which].take(name, asked, processes) is None:
            running.append((which, name))
            moments.append(clock[0])
        assert len(running) <= 8
    for first, start in enumerate(moments):
        for last, end in list(enumerate(moments))[first:]:
            assert last - first + 1 <= 12 * (1 + (end - start) / 60) + processes * 0.01


def test_what_a_process_counted_by_itself_is_forgotten_but_for_calls_that_run() -> None:
    """When the store is back its figures count; a call that was let in here ends here."""
    alone = OwnLimits(lambda: 1000.0)
    asked = (use(REQUESTS, 1), use(PLACES, 2))
    assert alone.take("a", asked, 1) is None
    assert alone.take("a", asked, 1) is None  # the same call
    refusal = alone.take("b", asked, 1)
    assert refusal is not None
    assert refusal.excess is not None
    assert refusal.excess.unit == REQUESTS
    alone.forget()
    assert alone.take("b", asked, 1) is None
    alone.forget()
    refusal = alone.take("c", asked, 1)
    assert refusal is not None
    assert refusal.excess is not None
    assert refusal.excess.unit == PLACES
    alone.give_back("a", None)
    assert alone.take("c", asked, 1) is None


steps_of_calls = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(0, 9), st.integers(1, 1200)),
        st.tuples(st.just("settle"), st.integers(0, 9), st.one_of(st.none(), st.integers(0, 10**7))),
        st.tuples(st.just("release"), st.integers(0, 9), st.none()),
    ),
    max_size=30,
)


@given(st.sampled_from([1, 7, 1000]), steps_of_calls)
@settings(max_examples=60, deadline=None)
def test_the_script_in_redis_counts_to_the_same_figures(allowed: int, steps: list[tuple[str, int, int | None]]) -> None:
    """After every step each level is, part by part, what this arithmetic says for the moment that the server names."""
    server = shared("redis")
    if server is None:
        pytest.skip("there is no Redis server on this machine")
    asyncio.run(_compare(server.url, allowed, steps))


async def _compare(url: str, allowed: int, steps: list[tuple[str, int, int | None]]) -> None:
    own: dict[tuple[str, str], tuple[int, int, int]] = {}
    held: dict[str, tuple[Use, ...]] = {}
    async with _store(url) as (store, levels_of):
        for kind, number, figure in steps:
            name = f"c{number}"
            uses = tuple(
                use(unit, allowed, figure or 1 if unit == TOKENS else 1) for unit in (TOKENS, PLACES, REQUESTS)
            )
            granted = False
            if kind == "reserve":
                with contextlib.suppress(Failure):
                    granted = isinstance(await store.reserve(name, [], uses=uses), Hold) and name not in held
            elif kind == "settle":
                await store.settle(
                    Settlement(name, 0, "completed", (), b"{}", "2026-11-20T10:00:00.000Z", tokens=figure)
                )
            else:
                await store.release(name)
            found = await levels_of()
            moment = max((at for _, at in found.values()), default=0)
            if granted:
                Levels(moment, own).take(uses)
                held[name] = uses
            elif kind != "reserve" and name in held:
                Levels(moment, own).give_back(held.pop(name), figure if kind == "settle" else None)
            assert found == {key: own[key][:2] for key in found}


@contextlib.asynccontextmanager
async def _store(
    url: str,
) -> AsyncIterator[tuple[RedisStore, Callable[[], Awaitable[dict[tuple[str, str], tuple[int, ...]]]]]]:
    """A store on keys of its own, and what they say of limits."""
    prefix, link = secrets.token_hex(6), Link(url, 5.0)

    async def levels() -> dict[tuple[str, str], tuple[int, ...]]:
        found = {}
        for unit in UNITS:
            text = await link.commands.get(f"{{{prefix}}}:l:{unit}:team:a")
            if text:
                found["team:a", unit] = tuple(map(int, text.split()))
        return found

    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder), sync=False)
        store = RedisStore(link, prefix=prefix, lease_s=60, times=Times(1e9), owner="me", journal=journal)
        await store.open()
        try:
            yield store, levels
        finally:
            await store.close()


def test_a_bucket_of_doubles_is_exact() -> None:
    """The largest limit that a config can have, and a debt of a hundred of it: Lua counts them as Python does."""
    (kind,) = [each.metadata["kind"] for each in fields(Limit) if each.name == TOKENS]
    assert kind.most * PARTS * 100 < 1 << 53
