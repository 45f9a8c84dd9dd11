"""What decisions come to beside the config: order does not matter, what cannot be read changes nothing, little is compiled twice."""

from __future__ import annotations

import logging
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.budgets import Budget, Ledger
from gateway.admission.keys import hash_of
from gateway.admission.scopes import Facts, names_of, parse_scope
from gateway.call import Caller
from gateway.changes import Entry
from gateway.decided import NOTHING, Composition, Counts, config_id
from gateway.errors import Kind
from gateway.settings import Auth, GatewayKey, Settings
from gateway.settings import Budget as BudgetSettings

NOW = 1_795_262_400.0
KEY = "tg-" + "Ab1" * 11
WITH_KEYS = replace(Settings(), auth=Auth("keys"))


def entry(kind: str, name: str, version: int, body: dict | None) -> Entry:
    return Entry(kind, name, version, orjson.dumps(body) if body is not None else None)


def key(version: int, **more: str) -> Entry:
    return entry("key", "k_1", version, {"name": "a", "hash": hash_of(KEY), **more})


def asked(settings: Settings, *entries: Entry):
    keys = Composition().of(settings, NOTHING.following(entries)).keys
    assert keys is not None
    return keys.find({b"authorization": [f"Bearer {KEY}".encode()]})


def test_a_key_is_known_until_it_ends():
    assert asked(WITH_KEYS, key(1)).refuse(NOW, "") is None
    assert "expired at 2026-01-01" in asked(WITH_KEYS, key(1, expires="2026-01-01")).refuse(NOW, "").message
    assert "was revoked at 2026-11-20T10:00:00Z" in asked(
        WITH_KEYS, key(1), key(2, revoked_at="2026-11-20T10:00:00.250Z")
    ).refuse(NOW, "").message  # fmt: skip


def test_a_key_of_the_config_ends_as_was_decided():
    settings = replace(WITH_KEYS, keys=(GatewayKey("a", hash_of(KEY), expires=int(NOW) + 10),))
    name = config_id(hash_of(KEY))
    assert asked(settings).refuse(NOW, "") is None
    sooner = entry("key", name, 1, {"name": "a", "hash": hash_of(KEY), "expires": "2026-01-01"})
    later = entry("key", name, 1, {"name": "a", "hash": hash_of(KEY), "expires": "2099-01-01"})
    assert "expired" in asked(settings, sooner).refuse(NOW, "").message
    assert "expired" in asked(settings, later).refuse(NOW + 20, "").message, "the sooner of two holds"
    gone = entry("key", name, 2, {"name": "a", "hash": hash_of(KEY), "revoked_at": "2026-11-20"})
    assert "revoked" in asked(settings, gone).refuse(NOW, "").message
    assert asked(WITH_KEYS, gone).kind is Kind.AUTHENTICATION, "of a line that has left the config nothing is known"


def test_the_same_key_in_both_is_revoked_if_one_says_so():
    settings = replace(WITH_KEYS, keys=(GatewayKey("a", hash_of(KEY)),))
    assert "revoked" in asked(settings, key(1, revoked_at="2026-11-20")).refuse(NOW, "").message


def test_before_the_store_is_read_unknown_keys_are_put_off():
    keys = Composition().of(WITH_KEYS, NOTHING).keys
    assert keys.find({b"x-api-key": [KEY.encode()]}).kind is Kind.STORE_UNAVAILABLE


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b"no json", b'{"scope":"team:a","limit_usd":"-1"}', b'{"name":"a","hash":"tg-x"}']
)
def test_what_cannot_be_read_changes_nothing(body, caplog):
    """And is told of, without what stands in it."""
    with caplog.at_level(logging.ERROR):
        for kind in ("key", "budget", "reset"):
            found = NOTHING.following([Entry(kind, "x", 3, body), key(4)])
            assert (found.revision, len(found.keys), len(found.budgets), len(found.resets)) == (4, 1, 0, 0)
    assert caplog.text.count("cannot be read") == 3
    assert NOTHING.following([entry("of a later version", "x", 1, {})]).revision == 1


def test_what_cannot_be_read_leaves_the_decision_before_it():
    """But for a key, which must not go on letting somebody in: it may have been revoked."""
    before = NOTHING.following(
        [key(1), entry("budget", "b", 2, {"scope": "team:a", "limit_usd": "5", "window": "day"})]
    )
    (name,) = before.keys
    after = before.following([Entry("budget", "b", 3, b"{}"), Entry("key", name, 4, b"{}")])
    assert after.budgets == before.budgets
    assert not after.keys


def test_a_change_of_one_thing_keeps_the_others():
    composition = Composition()
    budget = {"scope": "team:a", "limit_usd": "5", "window": "day"}
    first = NOTHING.following([key(1), entry("budget", "b", 2, budget)])
    rules = composition.of(WITH_KEYS, first)
    second = composition.of(WITH_KEYS, first.following([key(3, team="t")]))
    assert second.ledger is rules.ledger
    assert second.keys is not rules.keys
    third = composition.of(WITH_KEYS, first.following([key(3, team="t"), entry("budget", "b", 4, None)]))
    assert third.ledger is not rules.ledger
    assert third.ledger.count == 0


def test_a_decision_takes_the_place_of_the_budget_of_its_name():
    settings = replace(Settings(), budgets=(BudgetSettings("team:a", 10**9), BudgetSettings("team:b", 10**9, name="b")))
    made = entry("budget", "team:a/day", 1, {"scope": "team:a", "limit_usd": "5", "window": "day"})
    ledger = Composition().of(settings, NOTHING.following([made])).ledger
    assert {each.budget: each.limit_nanousd for each in ledger.limits(NOW)} == {"b": 10**9, "team:a/day": 5 * 10**9}


def test_what_is_forgiven_enlarges_the_limits_of_one_window():
    budgets = [
        Budget("hard", "team:a", 5, "day"),
        Budget("shadow", "team:a", 3, "day", "shadow"),
        Budget("hour", "team:a", 5, "hour"),
    ]
    ledger = Ledger(budgets, {"team:a/day:2026-11-21": 100})
    for at, more in ((NOW, 100), (NOW + 86_400, 0), (NOW, 100)):
        claims = {each.window: each for each in ledger.claims(Caller(team="a"), at, 1, 1) if each.budget}
        assert (claims["day"].limit_nanousd, claims["day"].forgiven_nanousd) == (5 + more, more)
        assert claims["day"].stated_nanousd == 5
        assert (claims["hour"].limit_nanousd, claims["hour"].forgiven_nanousd) == (5, 0)
    alone = Ledger(budgets[1:2], {"team:a/day:2026-11-21": 100})
    assert [each.shadow_nanousd for each in alone.claims(Caller(team="a"), NOW, 1, 1)] == [103]


NAMES = st.sampled_from(["a", "b", "-", "a+b", "a%2Bb", "a+team:b"])
SCOPES = st.one_of(
    st.just("global"),
    st.builds("{}:{}".format, st.sampled_from(["team", "user", "agent", "key", "provider", "upstream"]), st.sampled_from(["a", "b", "-", "*"])),
    st.sampled_from(["model:a", "model:a*", "model:*", "tag:x=a", "tag:x=-", "tag:x", "team:a+user:*", "team:a+user:b", "team:a%2Bb"]),
)  # fmt: skip


@given(SCOPES, NAMES, NAMES, NAMES, st.one_of(st.none(), NAMES))
def test_a_scope_with_a_name_is_found_by_it(text, team, user, model, tag):
    """Whoever looks budgets up by the names of a call misses none whose scope the call meets."""
    scope = parse_scope(text)
    facts = Facts(team=team, user=user, model=model, tags=(("x", tag),) if tag is not None else ())
    if scope.only_name is not None and scope.of(facts) is not None:
        assert scope.only_name in names_of(facts)


def test_metrics_count_keys_by_state_and_annotations_by_tag():
    counts, name = Counts(), config_id(hash_of(KEY))
    settings = replace(WITH_KEYS, keys=(GatewayKey("c", hash_of(KEY)),))
    entries = [entry("key", f"k_{number}", number + 1, {"name": "a", "hash": hash_of(str(number)), **more})
               for number, more in enumerate([{}, {"expires": "2026-01-01"}, {"revoked_at": "2026-01-01"}])]  # fmt: skip
    entries += [entry("key", name, 8, {"name": "c", "hash": hash_of(KEY), "revoked_at": "2026-01-01"})]
    entries += [entry("annotation", f"a_{number}", 10 + number, {"tags": [f"t{number}"]}) for number in range(30)]
    decided = NOTHING.following(entries)
    counts.add(decided)
    counts.add(decided)
    counts.look(settings, decided, NOW)
    gauges = counts.gauges()
    assert gauges["tollgate_keys"] == {("active",): 1.0, ("expired",): 1.0, ("revoked",): 2.0}
    assert gauges["tollgate_entries_revision"] == {(): 39.0}
    told = gauges["tollgate_annotations_total"]
    assert (len(told), sum(told.values()), told[("other",)]) == (21, 30.0, 10.0)
