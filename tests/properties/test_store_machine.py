"""Any interleaving of reserve, settle, release and lapse, in batches of any size, against books kept on a napkin."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.accounts import Account, Claim, Hold
from gateway.call import CORRECTED, Receipt
from gateway.errors import Failure, Kind, Refusal
from gateway.store import SPEND_COUNTS, Settlement, Spend, queries, sums
from gateway.store.books import Extend, Lapse, Operation, Release, Reserve, Settle
from gateway.store.kept import Kept
from gateway.store.pages import load, save
from gateway.store.rollups import spend_of
from gateway.store.tables import connect, prepare, roll_back

LIMITS = {Account("a", "day"): 10, Account("b", "day"): 25, Account("c", "day"): None}
BY = ("team", "model")
LAPSED = ("1970-01-01T00", '{"team":"","model":""}')
"""Where the sums count what lapses here: all is granted in the second 1."""
calls = st.sampled_from([f"call-{number}" for number in range(6)])
corrections = st.sampled_from([f"call-{number}+1" for number in range(3)])
moments = st.sampled_from([f"2026-11-{day}T{hour:02d}:30:00.000Z" for day in (19, 20) for hour in (0, 9, 23)])
some_accounts = st.lists(st.sampled_from(list(LIMITS)), max_size=4)
claims = st.lists(
    st.builds(
        lambda account, amount: Claim(account, amount, LIMITS[account]),
        st.sampled_from(list(LIMITS)),
        st.integers(0, 12),
    ),
    max_size=4,
)


class Napkin:
    """The same books, with nothing but two dictionaries: calls that hold, and calls that were charged."""

    def __init__(self) -> None:
        self.held: dict[str, list[Claim]] = {}
        self.mark: dict[str, int] = {}
        self.charged: dict[str, tuple[int, set[Account], str]] = {}
        self.added: dict[str, Spend] = {}

    def balance(self, account: Account) -> tuple[int, int]:
        spent = sum(cost for cost, accounts, _ in self.charged.values() if account in accounts)
        held = sum(claim.amount_nanousd for made in self.held.values() for claim in made if claim.account == account)
        return spent, held

    def reserve(self, call: str, made: list[Claim]) -> str:
        if call in self.charged:
            return "closed"
        if call in self.held:
            return "granted"
        answer = self.room(made)
        if answer == "granted":
            self.held[call] = made
            self.mark[call] = max((each.amount_nanousd for each in made), default=0)
        return answer

    def room(self, made: list[Claim]) -> str:
        answer = "granted"
        for account in dict.fromkeys(claim.account for claim in made):
            needed = sum(claim.amount_nanousd for claim in made if claim.account == account)
            spent, held = self.balance(account)
            counted, limit = max(0, spent), LIMITS[account]
            if limit is not None and counted + needed > limit:
                return "exceeded"
            if limit is not None and counted + held + needed > limit:
                answer = "held"
        return answer

    def extend(self, call: str, made: list[Claim]) -> str:
        if call not in self.held:
            return "closed"
        before = {account: self.held_by(call, account) for account in LIMITS}
        more = [replace(each, amount_nanousd=each.amount_nanousd - before[each.account]) for each in made]
        more = [each for each in more if each.amount_nanousd > 0]
        answer = self.room(more)
        if answer == "granted":
            self.held[call] = self.held[call] + more
            self.mark[call] = max(self.mark[call], *(self.held_by(call, account) for account in LIMITS))
        return answer

    def held_by(self, call: str, account: Account) -> int:
        return sum(each.amount_nanousd for each in self.held[call] if each.account == account)

    def settle(self, call: str, cost: int, accounts: list[Account], spend: Spend) -> str:
        if call in self.charged and self.charged[call][2] != "lost":
            return "again"
        self.held.pop(call, None)
        self.charged[call] = (cost, set(accounts), "completed")
        self.added[call] = spend
        return "booked"

    def spend(self) -> dict[tuple[str, str], list[int]]:
        """By day and dims."""
        found: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0] * len(SPEND_COUNTS))
        for call in self.charged:
            each = self.added[call]
            for at, count in enumerate(each.counts):
                found[each.hour[:10], each.dims][at] += count
        return {key: counts for key, counts in found.items() if any(counts)}

    def release(self, call: str) -> None:
        self.held.pop(call, None)
        if call in self.charged and self.charged[call][2] == "lost":
            del self.charged[call]

    def lapse(self, call: str) -> None:
        made = self.held.pop(call, None)
        if made is not None:
            self.charged[call] = (self.mark[call], {claim.account for claim in made}, "lost")
            self.added[call] = Spend(*LAPSED, (1, 1, 0, 0, 0, 0, self.mark[call], 1, 0))


class Books(RuleBasedStateMachine):
    """Operations pile up into a batch; ``commit`` carries it out in one transaction, or breaks it off."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.desks = [self.desk(), self.desk()]
        self.connection = self.desks[0][0]
        self.napkin = Napkin()
        self.batch: list[Operation] = []

    def desk(self):
        """A process with the file open, and what it keeps in mind of it."""
        connection = connect(str(Path(self.folder.name) / "books.db"), "normal", write=True)
        connection.execute("PRAGMA synchronous=OFF")
        prepare(connection)
        return connection, Kept()

    def teardown(self) -> None:
        for connection, _ in self.desks:
            connection.close()
        self.folder.cleanup()

    @rule(call=calls, made=claims)
    def reserve(self, call, made):
        self.batch.append(Reserve(call, tuple(made)))

    @rule(call=calls, made=claims)
    def extend(self, call, made):
        self.batch.append(Extend(call, tuple(made)))

    @rule(call=calls, cost=st.integers(0, 20), accounts=some_accounts, at=moments, team=st.sampled_from("ab"))
    def settle(self, call, cost, accounts, at, team):
        self.charge(accounts, call_id=call, cost_nanousd=cost, outcome="completed", started_at=at, team=team)

    @rule(call=corrections, cost=st.integers(-20, 20), accounts=some_accounts, at=moments)
    def correct(self, call, cost, accounts, at):
        self.charge(
            accounts, call_id=call, cost_nanousd=cost, outcome=CORRECTED, started_at=at, corrects=call.partition("+")[0],
            usage={"output": 3}, corrected_usage={"output": 5},
        )  # fmt: skip

    def charge(self, accounts, **record):
        call, cost, outcome = record["call_id"], record["cost_nanousd"], record["outcome"]
        text, spend = orjson.dumps(record), spend_of(record, BY)
        self.batch.append(
            Settle(Settlement(call, cost, outcome, tuple(accounts), text, record["started_at"], spend=spend))
        )

    @rule(rows=st.integers(1, 5))
    def condense(self, rows):
        """Hours before the second day become that day: no sum changes."""
        sums.condense(self.connection, "2026-11-20", rows)

    @rule(call=calls)
    def release(self, call):
        self.batch.append(Release(call))

    @rule(call=calls)
    def lapse(self, call):
        self.batch.append(Lapse(call, BY))

    @rule(call=calls, made=claims)
    def die(self, call, made):
        """Chance alone makes few lost calls, and fewer that come back."""
        self.batch += [Reserve(call, tuple(made)), Lapse(call, BY)]

    def begun(self, at):
        """A transaction of that desk, and the page that the batch needs."""
        connection, kept = self.desks[at]
        connection.execute("BEGIN IMMEDIATE")
        kept.look(connection)
        page = load(connection, self.batch, 1.0, "me", kept)
        return connection, kept, page

    @rule(at=st.sampled_from([0, 1]))
    def commit(self, at):
        """Every operation answers what the napkin says; an admission leaves spent + held within each limit. Whoever carries it out."""
        connection, _, page = self.begun(at)
        for operation in self.batch:
            assert self.outcome(operation, page) == self.expected(operation)
        save(connection, page)
        connection.execute("COMMIT")
        self.batch = []

    @rule(at=st.sampled_from([0, 1]))
    def crash(self, at):
        """Before COMMIT nothing has happened."""
        connection, kept, page = self.begun(at)
        for operation in self.batch:
            self.outcome(operation, page)
        save(connection, page)
        kept.forget()
        roll_back(connection)
        self.batch = []

    def outcome(self, operation, page):
        held_before = operation.call_id in page.holds
        try:
            answer = operation.apply(page)
        except Failure:
            return "closed"
        if isinstance(answer, Refusal):
            return "exceeded" if answer.kind is Kind.BUDGET_EXCEEDED else "held"
        if isinstance(answer, Receipt):
            return "again" if answer.again else "booked"
        if isinstance(answer, Hold) and not held_before:
            for claim in answer.claims:
                line = page.lines[claim.account]
                assert claim.limit_nanousd is None or line.spent + line.held <= claim.limit_nanousd
        return "granted" if isinstance(operation, Reserve | Extend) else None

    def expected(self, operation):
        if isinstance(operation, Reserve):
            return self.napkin.reserve(operation.call_id, list(operation.claims))
        if isinstance(operation, Extend):
            return self.napkin.extend(operation.call_id, list(operation.claims))
        if isinstance(operation, Settle):
            settlement = operation.settlement
            return self.napkin.settle(
                settlement.call_id, settlement.cost_nanousd, list(settlement.accounts), settlement.spend
            )
        if isinstance(operation, Release):
            return self.napkin.release(operation.call_id)
        return self.napkin.lapse(operation.call_id)

    @invariant()
    def the_books_agree(self):
        """Counters are what the napkin says, and what the records and holds beside them add up to."""
        for found in queries.balances(self.connection, list(LIMITS)):
            assert (found.spent_nanousd, found.held_nanousd) == self.napkin.balance(found.account)
        assert queries.holds(self.connection) == len(self.napkin.held)
        assert queries.differences(self.connection) == []

    @invariant()
    def spend_is_the_sum_of_what_is_charged(self):
        """By day and dims, whatever lapsed, came late, was taken back or corrected; and the file agrees with itself."""
        found = defaultdict(lambda: [0] * len(SPEND_COUNTS))
        for each in sums.spend(self.connection, "", "~"):
            found[each.hour[:10], each.dims] = [
                a + b for a, b in zip(found[each.hour[:10], each.dims], each.counts, strict=True)
            ]
        assert {key: counts for key, counts in found.items() if any(counts)} == self.napkin.spend()
        assert sums.differences(self.connection) == []


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
