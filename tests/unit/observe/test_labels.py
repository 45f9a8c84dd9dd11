"""Labels: which of the caller's names they are, and the bounds of their values."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.observe.labels import Labels
from tests.harness.finished import batch as finished
from tests.unit.observe.test_metrics import ALL, RECORD, families, told, value


def test_tags_user_and_key_can_be_labels() -> None:
    """A tag is called ``tag_...``, with letters, digits and _ only; a call without it has an empty one."""
    wanted = ("team", "user", "key_name", "tags.cost-center", "tags.v1.2")
    tagged = replace(RECORD, tags={"cost-center": "4711", "v1.2": "x", "secret": "s"}, key_name="k1")
    metrics = told(tagged, RECORD, labels=wanted)
    who = {"team": "search", "user": "u", "tag_cost_center": "4711", "tag_v1_2": "x", "key_name": "k1"}
    assert value(metrics, "llm_requests_total", **who) == 1
    assert value(metrics, "llm_requests_total", tag_cost_center="", tag_v1_2="", key_name="") == 1
    labels = {label for sample in families(metrics)["llm_cost_usd"].samples for label in sample.labels}
    assert labels == {*who, "provider", "model"}


def test_users_are_bounded_like_everything_else() -> None:
    """So that the label can be allowed."""
    metrics = told(*(replace(RECORD, user=f"u{n}") for n in range(1000)), labels=("user",), most=5)
    assert len(families(metrics)["llm_cost_usd"].samples) == 6
    assert value(metrics, "llm_requests_total", user="other") == 995


names = st.sampled_from(["a", "b", "c", "other", ""])
calls = st.lists(st.tuples(names, names, names, names), max_size=60)


@settings(max_examples=100, deadline=None)
@given(calls=calls, values=st.integers(1, 3), combinations=st.integers(1, 6))
def test_nothing_is_lost_and_nothing_grows(calls, values: int, combinations: int) -> None:
    """Whatever comes in whatever order: a name that has its own series keeps it, and every sum is right."""
    labels = Labels(ALL, values, combinations)
    seen: dict[tuple[str, ...], tuple[str, ...]] = {}
    for team, agent, provider, model in calls:
        raw = labels.raw(replace(RECORD, team=team, agent=agent, provider=provider, model_served=model))
        shown = labels.bounded(raw)
        if shown == raw:
            seen.setdefault(raw, shown)
        assert seen.get(raw, shown) == shown
    assert len(seen) <= combinations + values + 1
    shown = {
        labels.bounded(labels.raw(replace(RECORD, team=t, agent=a, provider=p, model_served=m))) for t, a, p, m in calls
    }
    assert len(shown) <= combinations + values + 1


@pytest.mark.parametrize("most", [1, 7])
def test_every_family_is_bounded(most: int) -> None:
    """Also by what only it tells apart: statuses and kinds of errors."""
    from gateway.observe.metrics import KINDS_OF_A_CALL, Metrics  # noqa: PLC0415

    metrics = Metrics(ALL, 30, most)
    for number in range(3000):
        odd = replace(RECORD, team=f"t{number % 97}", status=200 + number % 89, error_type=f"e{number % 83}",
                      own_count={"input": 3}, provider=f"p{number % 61}", model_served=f"m{number % 59}")  # fmt: skip
        metrics.take(finished([odd]))
    room = most + 30 + 1
    for family in metrics.families():
        assert len(family) <= room * (1 if family.bounds else KINDS_OF_A_CALL) + 31, family.name
    assert value(metrics, "llm_requests_total") == value(metrics, "llm_errors_total") == 3000
    assert value(metrics, "tollgate_own_count_ratio_count") == 3000
