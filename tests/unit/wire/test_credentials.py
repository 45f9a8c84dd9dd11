"""Whose turn it is among several keys of a provider, and what its answers do to that; on a clock that the test turns."""

from __future__ import annotations

from collections import Counter
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.credentials import FIRST_S, FORBIDDEN_IN_A_ROW, LONGEST_S, REJECTED_S, Credential, Keyring, wait_s

WEIGHTS = st.lists(st.integers(1, 100), min_size=1, max_size=7)
STATUSES = st.sampled_from((0, 200, 400, 401, 403, 429, 500))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def credentials(weights: list[int]) -> list[Credential]:
    return [Credential(f"k{index}", (b"a", b"%d" % index), weight) for index, weight in enumerate(weights)]


def ring_of(*weights: int, clock: Clock | None = None) -> Keyring:
    return Keyring(credentials(list(weights)), None, clock or Clock())


def names(ring: Keyring, count: int) -> str:
    return " ".join(ring.take().key.name for _ in range(count))


def say(ring: Keyring, name: str, status: int, *headers: tuple[bytes, bytes]) -> object:
    """An answer to a call with that key."""
    (turn,) = [each for each in ring.turns if each.key.name == name]
    return ring.answered(turn, status, headers)


def states(ring: Keyring) -> list[str]:
    return [state for _, _, state, _ in ring.told()]


@given(WEIGHTS)
def test_in_every_round_each_key_has_its_weight(weights: list[int]) -> None:
    """Exactly, and the heavy ones not all in a row: at any moment nobody is further off its share than the keys are many."""
    ring, total = ring_of(*weights), sum(weights)
    for _ in range(3):
        counts: Counter[str] = Counter()
        for done in range(1, total + 1):
            counts[ring.take().key.name] += 1
            assert all(
                abs(counts[f"k{index}"] - done * weight / total) <= len(weights) for index, weight in enumerate(weights)
            )
        assert [counts[f"k{index}"] for index in range(len(weights))] == weights


def test_turns_are_smooth() -> None:
    """nginx's own example: 5, 1, 1."""
    assert names(ring_of(5, 1, 1), 7) == "k0 k0 k1 k0 k2 k0 k0"
    assert names(ring_of(1, 1, 1), 7) == "k0 k1 k2 k0 k1 k2 k0"
    assert names(ring_of(7), 3) == "k0 k0 k0"


@given(WEIGHTS, st.lists(st.tuples(st.integers(0, 6), STATUSES, st.integers(0, 400)), max_size=40), st.data())
def test_whatever_was_answered_there_is_a_key_and_the_ready_ones_share(
    weights: list[int], history: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    """After any history: a key that is set aside is used only where all are, and a full round of the others is exact."""
    clock = Clock()
    ring = ring_of(*weights, clock=clock)
    for index, status, seconds in history:
        turn = ring.take()
        assert (
            turn.standing.until <= clock.now or min(each.standing.until for each in ring.turns) == turn.standing.until
        )
        ring.answered(ring.turns[index % len(weights)], status, ())
        clock.now += seconds
    clock.now += 1000  # all are back, and the first call begins a round
    assert set(states(ring)) == {"ready"}
    aside = data.draw(st.integers(0, len(weights) - 1))
    say(ring, f"k{aside}", 401)
    left = {f"k{index}": weight for index, weight in enumerate(weights) if index != aside}
    assert Counter(ring.take().key.name for _ in range(sum(left.values()))) == left
    assert ring.take().key.name in (left or {"k0"})
    assert ring.take(leading=True).key.name == "k0"


def test_a_429_sets_aside_for_as_long_as_it_says() -> None:
    """And what comes while it is aside makes that longer, never shorter."""
    clock = Clock()
    ring = ring_of(1, 1, clock=clock)
    assert say(ring, "k0", 429, (b"Retry-After", b"7")) is not None
    assert say(ring, "k0", 429, (b"Retry-After", b"3")) is None
    assert (names(ring, 3), states(ring)) == ("k1 k1 k1", ["rate_limited", "ready"])
    clock.now += 6.9
    assert names(ring, 1) == "k1"
    clock.now += 0.2
    assert (states(ring), names(ring, 4)) == (["ready", "ready"], "k0 k1 k0 k1")


def test_429s_that_do_not_say_how_long_double() -> None:
    """A key without credit is not asked every second for ever; calls that were on their way together count once."""
    clock = Clock()
    ring = ring_of(1, 1, clock=clock)
    waits = []
    for _ in range(12):
        for _ in range(5):
            say(ring, "k0", 429)
        waits.append(ring.told()[0][3])
        clock.now += waits[-1]
    assert waits[:4] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S, 8 * FIRST_S]
    assert max(waits) == LONGEST_S
    say(ring, "k0", 200)
    say(ring, "k0", 429)
    assert ring.told()[0][3] == FIRST_S


def test_a_401_sets_aside_at_once_and_a_403_at_the_third_in_a_row() -> None:
    """A 403 may be about one model; one that is answered otherwise in between is."""
    clock = Clock()
    ring = ring_of(1, 1, 1, clock=clock)
    assert say(ring, "k0", 401) is not None
    for status in (403, 403, 200, 403, 403, 404, 403, 403, 500):
        assert say(ring, "k1", status) is None
    assert states(ring) == ["rejected", "ready", "ready"]
    assert say(ring, "k1", 403) is not None
    assert states(ring) == ["rejected", "rejected", "ready"]
    assert FORBIDDEN_IN_A_ROW == 3
    clock.now += REJECTED_S
    assert set(names(ring, 3).split()) == {"k0", "k1", "k2"}
    assert say(ring, "k1", 403) is not None, "it is still what it was"


def test_a_key_that_is_revoked_while_it_is_limited_is_rejected() -> None:
    """The worse news holds."""
    ring = ring_of(1, 1)
    say(ring, "k0", 429)
    say(ring, "k0", 401)
    assert ring.told()[0][2:] == ("rejected", REJECTED_S)
    say(ring, "k0", 429, (b"retry-after", b"1"))
    assert ring.told()[0][2:] == ("rejected", REJECTED_S)


def test_calls_that_must_go_with_the_first_key_say_less_of_it() -> None:
    """It may have no right to list models, or have come to the limit of its batches: chats are another matter."""
    ring = ring_of(1, 1)
    leading = ring.take(leading=True)
    assert ring.answered(leading, 429, ((b"retry-after", b"60"),), leading=True) is None
    assert [ring.answered(leading, 401, (), leading=True) for _ in range(2)] == [None, None]
    assert states(ring) == ["ready", "ready"]
    assert ring.answered(leading, 401, (), leading=True) is not None
    assert states(ring) == ["rejected", "ready"]


def test_where_all_are_set_aside_the_one_whose_time_is_up_first_is_used() -> None:
    """There is always a key."""
    clock = Clock()
    ring = ring_of(1, 1, 1, clock=clock)
    for name, seconds in (("k0", b"30"), ("k1", b"10"), ("k2", b"20")):
        say(ring, name, 429, (b"retry-after", seconds))
    assert names(ring, 3) == "k1 k1 k1"
    clock.now += 20
    assert names(ring, 4) == "k1 k2 k1 k2"


def test_a_new_ring_knows_what_is_known_of_the_same_keys() -> None:
    """By the key, not by its name; also of calls that were on their way when the config changed."""
    clock = Clock()
    old = ring_of(1, 1, clock=clock)
    say(old, "k0", 401)
    renamed = Credential("other", (b"a", b"0"), 5)
    changed = Credential("k1", (b"a", b"changed"))
    new = Keyring([renamed, changed, Credential("k1 as it was", (b"a", b"1"))], old)
    assert states(new) == ["rejected", "ready", "ready"]
    say(old, "k1", 429)
    assert states(new) == ["rejected", "ready", "rate_limited"]
    assert "changed" not in repr(new) + repr(new.turns)


NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": formatdate(NOW + 60, usegmt=True)}, 60),
        ({"retry-after": formatdate(NOW - 60, usegmt=True)}, None),
        ({"retry-after": "999999"}, LONGEST_S),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "0"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, LONGEST_S),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m2.5s"}, 62.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "120ms"}, 0.12),
        ({"x-ratelimit-remaining-tokens": "9", "x-ratelimit-reset-tokens": "8s"}, None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "8 parsecs"}, None),
        ({"x-ratelimit-remaining-tokens": "0"}, None),
    ],
)
def test_how_long_a_429_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    """As the official SDKs read it, and bounded."""
    found = wait_s(tuple((name.title().encode(), value.encode()) for name, value in headers.items()), NOW)
    assert found == (pytest.approx(seconds) if seconds is not None else None)


@given(
    st.lists(st.tuples(st.sampled_from([b"retry-after", b"retry-after-ms", b"x-ratelimit-reset-tokens"]), st.binary()))
)
def test_no_answer_of_a_provider_raises_or_waits_for_ever(headers: list[tuple[bytes, bytes]]) -> None:
    """Whatever it says."""
    found = wait_s((*headers, (b"x-ratelimit-remaining-tokens", b"0")), NOW)
    assert found is None or 0 < found <= LONGEST_S
