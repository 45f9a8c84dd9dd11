"""When more is asked for, and how much: amounts that only grow, within the bound, at the pace of the stream."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.metering.outgrown import AHEAD_S, LEAST_TOKENS, NEVER, Outgrown, Responses, Written

SECOND = 1_000_000_000
AMOUNTS = st.integers(0, 10**9)


def test_half_of_what_is_held_for_the_output_is_the_first_check_point() -> None:
    """The input was used from the start."""
    outgrown = Outgrown(1000, 10_000, 400, 0)
    assert outgrown.look_at == 700
    assert [outgrown.is_due(used, billed=False) for used in (699, 700)] == [False, True]


def test_nothing_is_asked_for_while_a_whole_slice_is_held() -> None:
    """The check point moves to where half a slice is left."""
    outgrown = Outgrown(1000, 10_000, 0, 0)
    assert outgrown.wish(500, 200) is None
    assert outgrown.look_at == 900
    assert outgrown.wish(900, 200) == 1100


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.integers(1, 600 * SECOND))
def test_a_slice_is_five_seconds_of_the_stream_s_own_pace(written: int, least: int, elapsed_ns: int) -> None:
    """But never less than the least, and no pace is told from less than a second."""
    outgrown = Outgrown(10, 10**12, 0, 0)
    ahead = outgrown.slice(written, least, elapsed_ns)
    assert ahead == max(least, written * AHEAD_S * SECOND // max(SECOND, elapsed_ns))
    assert outgrown.slice(written, least, elapsed_ns + SECOND) == least  # nothing more was written


STEPS = st.lists(
    st.tuples(AMOUNTS, st.integers(0, 10 * SECOND), st.sampled_from(["yes", "put off", "come back", "use up"])),
    max_size=40,
)


@given(AMOUNTS, AMOUNTS, AMOUNTS, st.integers(1, 10**7), STEPS)
def test_totals_never_fall_and_never_exceed_the_bound(
    held: int, more: int, first: int, least: int, steps: list[tuple[int, int, str]]
) -> None:
    """Whatever the answers are; and each leaves the next question to something more that was used."""
    most = held + more
    outgrown = Outgrown(held, most, min(first, held), 0)
    used, now_ns, asked = min(first, held), 0, held
    for step, later_ns, answer in steps:
        used, now_ns = used + step, now_ns + later_ns
        if not outgrown.is_due(used, billed=False):
            assert used < outgrown.look_at
            continue
        ahead = outgrown.slice(used, least, now_ns)
        assert ahead >= least
        total = outgrown.wish(used, ahead)
        if total is None:
            assert outgrown.held >= most or used + ahead <= outgrown.held
            assert outgrown.look_at > used
            continue
        assert asked <= total <= most
        assert total == min(used + ahead, most)
        if answer == "yes":
            outgrown.granted(total, used)
            asked = total
            assert outgrown.held == total
            assert used <= outgrown.look_at
        elif answer == "put off":
            outgrown.put_off(used, ahead)
            assert outgrown.look_at == used + ahead
        elif answer == "come back":
            outgrown.come_back(used, least)
            assert outgrown.is_used_up(used) or used < outgrown.look_at <= outgrown.held
        else:
            outgrown.use_up()
            assert outgrown.is_used_up(outgrown.look_at)
        assert outgrown.at_most(used) <= most


def test_all_that_a_call_can_cost_is_enough() -> None:
    """Nothing is asked for any more."""
    outgrown = Outgrown(1000, 1500, 0, 0)
    outgrown.granted(1500, 1200)
    assert outgrown.wish(1400, 500) is None
    assert outgrown.look_at == NEVER


def test_a_bill_is_a_check_point_unless_the_last_answer_was_no() -> None:
    """A session is asked about after each response, but not after each one that had no room."""
    outgrown = Outgrown(100, 10_000, 0, 0)
    assert outgrown.is_due(1, billed=True)
    outgrown.put_off(1, 50)
    assert not outgrown.is_due(2, billed=True)
    outgrown.granted(200, 2)
    assert outgrown.is_due(3, billed=True)


# -- what is used ----------------------------------------------------------------------------------------------------------


def test_what_was_written_is_four_bytes_a_token() -> None:
    """Rounded up, beside the likely input."""
    written = Written(700, 600_000_000)
    assert written.used(0) == (700, 0)
    assert written.used(1) == (1300, 600)
    assert written.used(4 * LEAST_TOKENS) == (700 + 256 * 600, 256 * 600)


def test_what_the_provider_tells_takes_the_place_of_the_guess() -> None:
    """What was written beyond it is added; what was thought is in it and is not written."""
    written = Written(700, 600_000_000)
    written.tell(5000, 10)
    assert written.used(0) == (5000, 6000)
    assert written.used(4 * 10) == (5000, 6000)
    assert written.used(4 * 15) == (8000, 9000)


@given(AMOUNTS, st.integers(1, 10**12), AMOUNTS, st.integers(0, 10**6), AMOUNTS)
def test_the_bytes_to_an_amount_are_never_too_many(
    likely: int, femto: int, told: int, tokens: int, nanousd: int
) -> None:
    """Whoever looks again after so many has not passed it by more than a token."""
    written = Written(likely, femto)
    written.tell(told, tokens)
    at = written.bytes_until(nanousd)
    assert at >= 0
    if at:
        assert written.used(at)[0] <= max(nanousd, told) + 1
    assert Written(likely, 0).bytes_until(nanousd) == NEVER


def test_the_largest_response_so_far_is_the_measure_of_the_next() -> None:
    """At least what the house says; the one that is being spoken counts as well."""
    responses = Responses(50)
    found = []
    for used, finished in [(10, False), (20, True), (20, True), (110, False), (130, True), (140, False)]:
        responses.note(used, finished=finished)
        found.append((responses.largest, responses.billed))
        responses.billed = False
    assert found == [(50, False), (50, True), (50, False), (90, False), (110, True), (110, False)]
