"""A call that outgrows its hold: more is set aside while it runs, and where a budget says so, it ends when there is no room.

Sees what the tap has read, some times per 8 KB of the stream and never per chunk, and asks the store in the background, one
question at a time. How much and when is decided in ``metering.outgrown``. Laws: the call never waits for it, and no failure of
it touches the call; it is over before the call is handed to ``settle``; only a budget that says ``cut`` ends anything.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.accounts import Claim
from gateway.admission.bounds import MOST_NANOUSD
from gateway.errors import Failure, Kind, Refusal, Whose
from gateway.metering.outgrown import LEAST_TOKENS, Outgrown, Responses, Written
from gateway.metering.tap import DIGEST_BYTES
from pricing.money import FEMTO_PER_NANO
from pricing.usage import Usage

if TYPE_CHECKING:
    from gateway.call import Call
    from gateway.dialects import Reading
    from gateway.store import Store
    from gateway.watch import Watch
    from gateway.wire import LastWords

log = logging.getLogger("gateway.extension")

Cut = Callable[[Failure, "LastWords | None"], None]

LEAST_LOOK_BYTES = 512
"""An event or two: near a check point the stream is looked at so often, elsewhere every 8 KB."""
SESSION_LOOK_BYTES = 1
"""A session is looked at whenever something of it comes: some ten times a second, and each event can be a bill."""


class Extension:
    """Made for one call before its request leaves, ``close``d when its answer is over. ``failure`` and ``refusal`` say that, and
    for want of which room, it ended the call.
    """

    __slots__ = (
        "_call_id",
        "_claims",
        "_closed",
        "_cut",
        "_marks",
        "_meter",
        "_outgrown",
        "_refused",
        "_store",
        "_task",
        "_warned",
        "_watch",
        "failure",
        "refusal",
    )

    def __init__(
        self, call_id: str, claims: Sequence[Claim], meter: Text | Session, store: Store, watch: Watch, cut: Cut
    ) -> None:
        self._call_id = call_id
        self._claims = tuple(claims)
        self._meter = meter
        self._store = store
        self._watch = watch
        self._cut = cut
        self._marks = all(each.lost_estimate for each in watch.call.claims or () if each.limit_nanousd is not None)
        held = min(claim.amount_nanousd for claim in claims)
        self._outgrown = Outgrown(held, meter.most, meter.at_first, time.monotonic_ns())
        self._refused: Refusal | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = self._warned = False
        self.failure: Failure | None = None
        self.refusal: Refusal | None = None
        watch.look = (self.look, meter.bytes_to(self._outgrown.look_at, 0, 0))

    def look(self, reading: Reading, seen_bytes: int) -> int:
        """See how far the stream is; returns after how many bytes to look again. Raises nothing."""
        if self._closed or self.failure is not None:
            return DIGEST_BYTES
        try:
            self._check(reading)
            if self._task is not None:
                return DIGEST_BYTES  # the answer says when
            return self._meter.bytes_to(self._outgrown.look_at, reading.text_bytes, seen_bytes)
        except Exception:
            log.exception("a bug while looking how far call %s is", self._call_id, extra={"call_id": self._call_id})
            self._closed = True
            return DIGEST_BYTES

    async def close(self) -> None:
        """The answer is over: nothing is asked any more. What was asked and not answered may still be carried out; once the
        call is settled, that changes nothing.
        """
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        del self._watch, self._meter  # the watch knows us: prompt and answer would wait for the garbage collector

    def _check(self, reading: Reading) -> None:
        """Ask, or end, if a check point was passed."""
        used, written = self._meter.used(reading)
        if self._task is not None or not self._outgrown.is_due(used, billed=self._meter.take_bill()):
            return
        if self._refused is not None and self._outgrown.is_used_up(used):
            self._end(self._refused)
            return
        ahead = self._outgrown.slice(written, self._meter.least, time.monotonic_ns())
        total = self._outgrown.wish(used, ahead)
        if total is not None:
            self._task = asyncio.get_running_loop().create_task(self._ask(total, used, ahead))

    async def _ask(self, total: int, used: int, ahead: int) -> None:
        try:
            await self._raise(total, used, ahead)
        except Failure as failure:
            if not self._warned:
                log.warning(
                    "call %s goes on with the hold that it has: %s",
                    *(self._call_id, failure.message),
                    extra={"call_id": self._call_id},
                )
            self._warned = True
            self._outgrown.put_off(used, ahead)
        except Exception:
            log.exception("a bug while raising the hold of call %s", self._call_id, extra={"call_id": self._call_id})
            self._outgrown.put_off(used, ahead)
        finally:
            self._task = None
        if not self._closed:  # it may be further already, and nothing more may come
            self._watch.look_in(self.look(*self._watch.so_far()))

    async def _raise(self, total: int, used: int, ahead: int) -> None:
        """All claims together; where the whole slice has no room, the least one. A budget that lets streams end does not stand
        in the way of the others.
        """
        claims = self._claims
        least = self._outgrown.at_most(max(self._outgrown.held, used) + self._meter.least)
        mark = self._outgrown.at_most(used + ahead) if self._marks else None
        while claims:
            wanted = [claim.of(total) for claim in claims]
            answer = await self._store.extend(self._call_id, wanted, mark)
            if not isinstance(answer, Refusal):
                self._refused = None
                self._outgrown.granted(total, self._used())
                return
            if total > least:
                total = least
                continue
            refusing = _named(claims, answer)
            if refusing is None or refusing.cut:
                self._no_room(answer)
                return
            claims = tuple([claim for claim in claims if claim is not refusing])
        self._outgrown.put_off(used, ahead)

    def _no_room(self, refusal: Refusal) -> None:
        """A budget that cuts: what is held may still be used."""
        self._refused = refusal
        used = self._used()
        if self._outgrown.is_used_up(used):
            self._end(refusal)
        elif refusal.kind is Kind.BUDGET_HELD:
            self._outgrown.come_back(used, self._meter.least)
        else:
            self._outgrown.use_up()

    def _used(self) -> int:
        """Now."""
        return self._meter.used(self._watch.so_far()[0])[0]

    def _end(self, refusal: Refusal) -> None:
        """Not at once: it may be a chunk on its way to the client that told us."""
        message = f"This answer was cut off, because its budget ran out while it was written. {refusal.message}"
        self.refusal = replace(refusal, kind=Kind.BUDGET_EXCEEDED, message=message, retry_after_ms=0)
        self.failure = Failure(Kind.BUDGET_EXCEEDED, Whose.OURS, "A budget ran out while this answer was written.")
        asyncio.get_running_loop().call_soon(self._say_end)

    def _say_end(self) -> None:
        if not self._closed and self.refusal is not None and self.failure is not None:
            self._cut(self.failure, self._watch.last_words(self.refusal))


class Text:
    """What a call has used by what it has written, and by what its provider tells on the way."""

    __slots__ = ("_told", "_watch", "_written", "at_first", "least", "most")

    def __init__(self, watch: Watch, likely_input_nanousd: int, output_femto: int, most: int) -> None:
        self._watch = watch
        self._written = Written(likely_input_nanousd, output_femto)
        self._told: object = None
        self.at_first = likely_input_nanousd
        self.most = most
        self.least = self._written.cost(LEAST_TOKENS) or max(1, most // 16)

    def used(self, reading: Reading) -> tuple[int, int]:
        """See ``Written``."""
        told = reading.usage
        if told is not self._told:
            self._told = told
            usage = self._watch.dialect.usage(told) if told is not None else None
            if usage is not None:
                self._written.tell(self._watch.price(usage, reading), usage.output_tokens)
        return self._written.used(reading.text_bytes)

    def take_bill(self) -> bool:
        """A text is billed as it grows."""
        return False

    def bytes_to(self, nanousd: int, text_bytes: int, seen_bytes: int) -> int:
        """How many bytes of the stream it takes at least, if it goes on as dense as it was."""
        left = self._written.bytes_until(nanousd) - text_bytes
        if left >= DIGEST_BYTES:
            return DIGEST_BYTES
        return max(LEAST_LOOK_BYTES, left * seen_bytes // text_bytes if text_bytes else left)


class Session:
    """What a session has used: its responses, each with a bill of its own, and the one that is being spoken."""

    __slots__ = ("_responses", "_watch", "at_first", "most")

    def __init__(self, watch: Watch, least: int) -> None:
        self._watch = watch
        self._responses = Responses(least)
        self.at_first = 0
        self.most = MOST_NANOUSD

    @property
    def least(self) -> int:
        """See ``Responses``."""
        return self._responses.largest

    def used(self, reading: Reading) -> tuple[int, int]:
        """By what was billed, and by what was said since."""
        ask = self._watch.call.ask
        counts = self._watch.dialect.unsaid(ask, reading) if ask is not None else None
        used = self._watch.price(Usage(**counts), reading) if counts else 0
        self._responses.note(used, finished=reading.finished)
        return used, 0

    def take_bill(self) -> bool:
        """Whether a response was billed since this was last asked."""
        billed, self._responses.billed = self._responses.billed, False
        return billed

    def bytes_to(self, nanousd: int, text_bytes: int, seen_bytes: int) -> int:
        """Always the next ones."""
        return SESSION_LOOK_BYTES


def extension_of(call: Call, watch: Watch, store: Store, cut: Cut) -> Extension | None:
    """For a stream whose hold a budget wants to grow; None for every other call."""
    ask, request, bound = call.ask, call.request, call.bound
    if call.hold is None or ask is None or request is None:
        return None
    if bound is not None and ask.stream:
        claims = [each for each in call.claims or () if each.grows and each.amount_nanousd < bound.most_nanousd]
        meter: Text | Session = Text(watch, bound.likely_input_nanousd, bound.output_femto, bound.most_nanousd)
    elif bound is None and watch.dialect.operation == "realtime":
        claims = [each for each in call.claims or () if each.grows]
        tariff = watch.snapshot.tariff(request.provider, request.priced_as or ask.model, call.started_at)
        rate_femto = tariff.rate_femto("audio_out") or tariff.likely_output_femto
        meter = Session(watch, max(1, LEAST_TOKENS * rate_femto // FEMTO_PER_NANO))
    else:
        return None
    return Extension(call.call_id, claims, meter, store, watch, cut) if claims else None


def _named(claims: Sequence[Claim], refusal: Refusal) -> Claim | None:
    """The claim that a refusal names."""
    for claim in claims:
        window = claim.window or claim.account.window.partition(":")[0]
        if (claim.budget or claim.account.scope, claim.account.scope, window) == (
            refusal.budget,
            refusal.scope,
            refusal.window,
        ):
            return claim
    return None
