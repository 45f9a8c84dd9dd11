"""Budgets that are set, raised, lowered, unset and reset in any order, against a model of four numbers; SQLite and Redis."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.accounts import Hold
from gateway.admission.keys import Keys
from gateway.call import Caller
from gateway.changes import Asked, Denied
from gateway.decided import NOTHING, Composition
from gateway.desk import Desk
from gateway.desk.budgets import BudgetDesk
from gateway.settings import Budget, Settings
from tests.promise.test_store import opened, settlement  # noqa: F401 - one is a fixture

CENT = 10_000_000
BY = Asked("ann", "because")
NOW = 1_795_262_400.0

steps = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(1, 6)),
        st.tuples(st.just("spend"), st.integers(1, 3)),
        st.tuples(st.sampled_from(["unset", "reset"]), st.just(0)),
    ),
    max_size=14,
)


@dataclass
class Model:
    """Cents. ``config`` and ``decided`` are limits, None where there is none."""

    config: int | None
    decided: int | None = None
    spent: int = 0
    forgiven: int = 0

    @property
    def limit(self) -> int | None:
        return self.decided if self.decided is not None else self.config

    def takes(self, cents: int) -> bool:
        """Whether a call of so much is let through."""
        return self.limit is None or self.spent - self.forgiven + cents <= self.limit


async def decide(desk: BudgetDesk, model: Model, name: str, scope: str, what: str, cents: int) -> None:
    """Do it, or be told that it cannot be done, where the model says so."""
    if what == "set":
        await desk.set(BY, name, {"scope": scope, "limit_usd": f"0.{cents:02}", "window": "total", "mode": "strict"})
        model.decided = cents
    elif (model.decided if what == "unset" else model.limit) is None:
        with pytest.raises(Denied):
            await (desk.unset(BY, name) if what == "unset" else desk.reset(BY, name))
    elif what == "unset":
        await desk.unset(BY, name)
        model.decided = None
    else:
        told = await desk.reset(BY, name)
        model.forgiven = model.spent
        assert (told["spent_nanousd"], told["remaining_nanousd"]) == (0, (model.limit or 0) * CENT)


async def spend(store: Any, ledger: Any, team: str, cents: int) -> bool:
    """One call of exactly so much."""
    claims = ledger.claims(Caller(team=team), NOW, cents * CENT, cents * CENT)
    call_id = uuid.uuid4().hex
    answer = await store.reserve(call_id, claims)
    if not isinstance(answer, Hold):
        return False
    limits = tuple(claim for claim in claims if claim.budget)
    cost = settlement(call_id, cents * CENT, *(claim.account for claim in claims))
    receipt = await store.settle(replace(cost, limits=limits))
    assert receipt.overdrafts == ()
    return True


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=st.one_of(st.none(), st.integers(1, 6)), steps=steps)
async def test_like_the_model(opened, config: int | None, steps: list[tuple[str, int]]) -> None:  # noqa: F811
    """A call passes if and only if the model lets it; what is spent stands in the books whatever was forgiven."""
    team = f"t{uuid.uuid4().hex}"
    scope, name = f"team:{team}", f"b-{team}"
    model = Model(config)
    budgets = () if config is None else (Budget(scope, config * CENT, "total", "strict", name=name),)
    of_config = replace(Settings(), budgets=budgets)
    composition, decided = Composition(), NOTHING
    async with opened() as store:

        async def current():
            nonlocal decided
            decided = decided.following(await store.entries(decided.revision))
            return decided

        desk = BudgetDesk(Desk(store, lambda: of_config, current))
        for what, cents in steps:
            if what != "spend":
                await decide(desk, model, name, scope, what, cents)
                continue
            passed = await spend(store, composition.of(of_config, await current()).ledger, team, cents)
            assert passed == model.takes(cents)
            model.spent += cents * passed * (model.limit is not None)  # what nobody limits has no account
        (row,) = [each for each in await desk.accounts() if each["budget"] == name] or [None]
        if row is not None:
            assert row["limit_nanousd"] == (model.limit or 0) * CENT
            assert row["spent_nanousd"] == (model.spent - model.forgiven) * CENT
        rules = composition.of(of_config, await current())
        assert isinstance(rules.keys, Keys | None)
        accounts = [claim.account for claim in rules.ledger.claims(Caller(team=team), NOW, 1, 1)]
        total = [each for each in await store.read(accounts) if each.account.window == "total"]
        assert all(each.spent_nanousd == model.spent * CENT for each in total)
        assert await store.check() == 0
