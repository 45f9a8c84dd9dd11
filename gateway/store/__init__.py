"""The promise of a store: the only memory. All claims or none, once, whatever dies.

``reserve``  grants every claim of a call and every use of a limit, or none, in one atomic step. Asking again for the same call
             grants the same hold. After a crash between grant and answer the hold exists and its lease runs.
``extend``   raises a hold to new amounts while a stream outgrows it, under the same rule. Idempotent: amounts are totals.
``settle``   replaces the hold by what the call cost, and keeps the record, in one step. Idempotent by call id: the second
             time changes nothing. Works for a call whose hold is unknown, and corrects one that was charged as lost.
``release``  gives a hold back without a charge. Idempotent.
``read``     balances of accounts; ``find``, ``recent``, ``page`` finished calls; ``spend`` sums of them by the hour.
``digest``   sums of them by one dimension, for a page that asks again and again; ``accounts`` those that a wildcard stands for.
``change``   carries out what an operator decided (keys, budgets, annotations): all entries or none, each with the next revision
             and a line in the log. ``entries`` and ``revision`` tell every process of it.
``tally``    adds to how well targets are met; ``tallies`` reads it. Not idempotent: no money hangs on it.

A lease that lapses (its worker died) is charged with the hold, or with the mark that was last set beside it, and the record
says ``lost``: never zero, never silent. Places among calls in flight live and end with the hold; what is counted of limits may be
forgotten by a store that is restarted, and no money hangs on it. A threshold that is crossed is handed to ``tell`` once, whoever crosses it.
Failures of the store are ``Failure(STORE_UNAVAILABLE)``. The store's clock is the clock of leases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from gateway.value import value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gateway.accounts import Account, Balance, Claim, Hold, Notice, Use
    from gateway.call import Receipt
    from gateway.changes import Change, Changed, Conflict, Entry
    from gateway.errors import Failure, Refusal
    from gateway.selection import Page, Selection
    from gateway.store.digest import Digest, Report, Write
    from gateway.tallies import Tally


SPEND_COUNTS = (
    "calls", "failed", "refused", "input", "cached_input", "output", "cost_nanousd", "estimated", "unpriced",
)  # fmt: skip
"""New ones go to the end: sums that were kept before one was counted lack it."""
FIRST_COUNTS = 7
"""So many are known of every sum, however old."""


@value
class Spend:
    """What one call adds to the sums of its hour."""

    hour: str
    """2026-11-21T05, UTC, from the record's ``started_at``; 2026-11-21 in sums that were condensed to a day."""
    dims: str
    """JSON object of the declared dimensions, in their order, empty values kept: {"team":"search","model":"gpt-5"}."""
    counts: tuple[int, ...]
    """In the order of ``SPEND_COUNTS``; input is with cached input. What takes away is negative. Fewer, where a sum was kept before
    the last of them were counted: those are not known of it, and count as none.
    """


@value
class Settlement:
    """What is booked for a finished call. ``record`` is the Record as JSON; ``accounts`` those of its claims."""

    call_id: str
    cost_nanousd: int
    outcome: str
    accounts: tuple[Account, ...]
    record: bytes
    started_at: str
    """RFC 3339 as in the record: the order in which calls are listed."""
    limits: tuple[Claim, ...] = ()
    """Those of its claims that have a limit: their thresholds are watched, what goes past them is told."""
    spend: Spend | None = None
    """What it adds to the sums, in the same step; None = nothing."""
    uses: tuple[Use, ...] = ()
    """What it was granted of limits."""
    tokens: int | None = None
    """What it used of those on tokens; None = nobody knows."""
    correlation_id: str = ""
    """Of the record, for a store that would have to parse it; "" = that has to. And so the next one."""
    awaits: str = ""


@value
class Which:
    """A page of the accounts of one window. ``pattern`` is a GLOB of scopes in which each ``*`` is the name in one part; ``without``
    are scopes that are none of them; ``search`` stands somewhere in the scope, whatever the case of ASCII letters.
    """

    window: str
    pattern: str
    limit: int
    without: tuple[str, ...] = ()
    search: str = ""
    by_use: bool = True
    """Those with the most spent and held first; else in the order of their scopes, which is also that of equals."""
    most_used: int | None = None
    """By use: what used more came on an earlier page, and so did of those that used exactly this much the ones up to ``after``."""
    after: str = ""
    """The scope after which the page goes on."""


class Store(Protocol):
    """See the module's docstring."""

    async def open(self) -> None:
        """Connect, create or upgrade the schema, start the background work."""

    async def close(self) -> None:
        """Finish what was asked for, renew nothing any more, disconnect."""

    @property
    def owed(self) -> int:
        """Settlements that stand in a journal and not in the books yet."""

    tell: Callable[[Sequence[Notice]], None]
    """Gets the thresholds that were crossed; set before ``open``."""

    async def reserve(
        self, call_id: str, claims: Sequence[Claim], mark_nanousd: int | None = None, uses: Sequence[Use] = ()
    ) -> Hold | Refusal:
        """All claims and uses or none. ``mark_nanousd`` is what the call costs if its process dies; None = its largest claim."""

    async def extend(self, call_id: str, claims: Sequence[Claim], mark_nanousd: int | None = None) -> Hold | Refusal:
        """Raise the hold of a call to what these claims come to; parts that hold more already stay. Refused, all stays as
        it was, but for the mark.
        """

    async def settle(self, settlement: Settlement) -> Receipt:
        """Book the cost, drop the hold, keep the record."""

    async def settle_all(self, settlements: Sequence[Settlement]) -> list[Receipt | Failure]:
        """The same for several calls at once; one that fails does not keep the others back."""

    async def release(self, call_id: str) -> None:
        """Drop the hold, charge nothing."""

    async def read(self, accounts: Sequence[Account]) -> list[Balance]:
        """Balances, in the order asked for; an account that the store does not know has zeros."""

    async def spend(self, since: str, until: str) -> list[Spend]:
        """Sums of the hours or days from ``since`` to before ``until``; those of the same hour and dims are added up."""

    async def digest(self, by: str, now: Sequence[str], before: Sequence[str]) -> Digest:
        """Sums by one dimension over these hours and days ("2026-11-21T05", "2026-11-21"), beside those before. The first time of
        a dimension reads all of them, later ones what has changed.
        """

    async def report(self, by: Sequence[str], periods: Mapping[str, Sequence[str]], most: int, write: Write) -> Report:
        """Sums by these dimensions for periods, each with its hours and days: the dearest first, so many rows in all. ``write`` is
        called in a thread.
        """

    async def accounts(self, which: Which) -> list[Balance]:
        """Those that are in the books. A store may be some seconds behind in which there are and in their order."""

    async def find(self, call_id: str) -> dict[str, Any] | None:
        """One record by call id."""

    async def recent(self, limit: int, before: str = "", correlation_id: str = "") -> list[dict[str, Any]]:
        """Records, newest first; ``before`` is the call id after which the list goes on."""

    async def page(self, wanted: Selection, limit: int, after: str = "") -> Page:
        """Records by what stands in them, newest first. At most ``selection.LOOKED_AT_MOST`` of them are looked at, so that a page of
        little or nothing may have a next one. ``after`` is what the page before said in ``following``; one that is not known is the
        end.
        """

    async def awaiting(self, provider: str, key: str) -> dict[str, Any] | None:
        """The record of the call that awaits what the provider calls by this name (``Record.awaits``)."""

    async def keep_book(self, version: str, pack: Callable[[], bytes]) -> None:
        """Keep a price book beside the records that name its version. Again changes nothing, and need not pack it: 10 ms."""

    async def tally(self, tallies: Sequence[Tally]) -> None:
        """Add to what there is of each bucket and target. Kept for ``tallies.KEPT_S``. After a Failure it may have been added."""

    async def tallies(self, since: int, until: int) -> list[Tally]:
        """The sums of buckets from ``since`` to before ``until`` (Unix seconds), in order of bucket and target."""

    async def change(self, changes: Sequence[Change]) -> list[Entry] | Conflict:
        """All of them or none; the entries as they are now. ValueError for what no entry can be."""

    async def revision(self) -> int:
        """Of the newest change; 0 before the first one. Cheap: every process asks several times a second."""

    async def entries(self, since: int = 0) -> list[Entry]:
        """Those that changed after a revision, in that order; those that were taken away too."""

    async def changes(self, limit: int, before: int = 0) -> list[Changed]:
        """The log of changes, newest first; ``before`` is the revision after which the list goes on."""

    async def holds(self) -> int:
        """How many calls hold something at the moment."""
