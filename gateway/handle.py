"""The story of a call while its client waits, in the order of time.

Each step fills one field of the Call and belongs to one room. There is one way out: whatever happens, the Call is given
to ``settle``, a refused one too. What happens after that is told in ``settle.py``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.accounts import PLACES
from gateway.admission.bounds import bound, likely_tokens
from gateway.admission.identity import identify
from gateway.admission.scopes import way_of
from gateway.call import Call, Caller, Headers, Request
from gateway.dialects.account import is_of_one_account
from gateway.dialects.stream_usage import with_usage
from gateway.dialects.table import dialect_for, upgraded
from gateway.ending import ending_of, ending_refused
from gateway.errors import MEANINGS, Failure, Kind, Refusal, retry_headers
from gateway.extension import extension_of
from gateway.permission import forbid
from gateway.settle import Finished, Settler
from gateway.store.words import refusal as no_room
from gateway.watch import Watch, identity_headers
from gateway.wire.attempts import send
from gateway.wire.routes import without_key
from gateway.wire.websocket import relay_upgrade

if TYPE_CHECKING:
    from gateway.accounts import Claim, Hold, Use
    from gateway.admission.keys import Key
    from gateway.dialects import Dialect
    from gateway.snapshot import Snapshot
    from gateway.store import Store
    from gateway.wire.arrival import Arrival
    from gateway.wire.credentials import SetAside
    from gateway.wire.forwarded import Proxies
    from gateway.wire.routes import Place

log = logging.getLogger("gateway.handle")

ASK_AGAIN_S = 0.05
"""While a call waits for room: other processes book as well, and nobody tells."""
MAY_SPEND = frozenset(("POST", "PUT", "PATCH"))
"""Methods that can make a provider do billable work, as a WebSocket can; a list of models is not held against a budget."""
FREE = frozenset(("count_tokens", "moderations"))
"""Operations (``dialects.table.FREE``) that no provider bills: an exhausted budget does not stand in their way."""
UNKNOWN = dialect_for("openai", "", "")
"""The dialect of a call before its path was read."""
MOST_WAITING = 32
"""Calls that wait for a place among those in flight, of one process: each asks the store some forty times a second."""
REASONS = {status: phrase.encode() for status, phrase in (
    (400, "Bad Request"), (401, "Unauthorized"), (403, "Forbidden"), (404, "Not Found"), (408, "Request Timeout"), (413, "Content Too Large"), (429, "Too Many Requests"),
    (431, "Request Header Fields Too Large"), (500, "Internal Server Error"), (502, "Bad Gateway"),
    (503, "Service Unavailable"), (504, "Gateway Timeout"),
)}  # fmt: skip
"""Reason phrases (RFC 9110 15, RFC 6585) of the statuses in ``errors.MEANINGS``."""
CHALLENGE: Headers = ((b"www-authenticate", b'Bearer realm="tollgate"'),)
"""RFC 9110 15.5.2: a 401 says what is asked for."""

VARIANT = bytes(0x80 | byte & 0x3F for byte in range(256))
"""A byte that begins with the two bits of RFC 9562's variant, for each byte of chance."""
CHANCE_AT_A_TIME = 256
"""Calls."""

_chance: list[str] = []
os.register_at_fork(after_in_child=_chance.clear)


def new_call_id() -> str:
    """A UUIDv7 (RFC 9562 5.7 and 6.2, method 3): sorts by time down to a quarter of a microsecond, so that lists and indexes
    follow the order of calls. 0.5 us.

    The rest is the kernel's randomness: a seeded or forked generator would give two calls one name, and the books one call.
    """
    if not _chance:
        _take_chance()
    parts = (time.time_ns() << 12) // 1_000_000  # milliseconds, with twelve bits behind the point
    moment = (parts >> 12 << 16 | 0x7000 | parts & 0xFFF).to_bytes(8, "big")
    return moment.hex("-", 2).replace("-", "", 1) + _chance.pop()


def _take_chance() -> None:
    """The random ends of many ids at once, because each system call gives up the GIL (15 us under load, measured)."""
    fours, twelves = bytearray(os.urandom(2 * CHANCE_AT_A_TIME)), os.urandom(6 * CHANCE_AT_A_TIME)
    fours[::2] = fours[::2].translate(VARIANT)
    ends = zip(fours.hex("-", 2).split("-"), twelves.hex("-", 6).split("-"), strict=True)
    _chance.extend([f"-{four}-{twelve}" for four, twelve in ends])


class Handle:
    """Answers arrivals. ``active`` holds the calls that are on their way, by id."""

    def __init__(
        self, snapshot: Callable[[], Snapshot], store: Store, settler: Settler, *, goes_on: bool = False
    ) -> None:
        self._snapshot = snapshot
        self._store = store
        self._settler = settler
        self._goes_on = goes_on
        """Whether calls go on without a hold while the store is down, although a budget limits them."""
        self._waiting = 0
        self.active: dict[str, Call] = {}
        self.on_unheld: Callable[[], None] = _say_nothing
        """Called for each of those."""
        self.on_set_aside: Callable[[str, SetAside], None] = _say_nothing
        """Called with the upstream's name when an answer sets one of its keys aside."""

    async def __call__(self, arrival: Arrival) -> None:
        """Answer one request; returns when its answer is out and the Call is in ``settle``'s hands."""
        snapshot = self._snapshot()
        call = Call(new_call_id(), time.time(), time.monotonic_ns(), snapshot.version)
        watch = Watch(call, snapshot, UNKNOWN)
        self.active[call.call_id] = call
        try:
            outcome = await self._admit(arrival, call, watch)
            if isinstance(outcome, Refusal):
                call.refusal = outcome
            else:
                await self._forward(arrival, call, watch)
        except Failure as failure:
            call.refusal = failure.refusal()
        except asyncio.CancelledError:
            call.refusal = Refusal(Kind.SHUTTING_DOWN, "The gateway is shutting down.")
            raise
        except Exception:
            log.exception("a bug while handling call %s", call.call_id, extra={"call_id": call.call_id})
            call.refusal = Refusal(Kind.INTERNAL, "The gateway failed while handling this request.")
        finally:
            try:
                if call.refusal is not None and not arrival.reply.started:
                    self._refuse(arrival, call, call.refusal, watch.dialect)
            finally:
                del self.active[call.call_id]
                finished = Finished(call, watch)
                if not self._settler.submit(finished):
                    await self._settler.settle([finished])

    # -- before the request leaves ------------------------------------------------------------------------------------

    async def _admit(self, arrival: Arrival, call: Call, watch: Watch) -> Refusal | None:
        """Read what is asked, by whom, and set aside what it may cost."""
        snapshot = watch.snapshot
        place = snapshot.routes.place(arrival.target)
        in_query: Sequence[str] = ()
        if snapshot.keys is not None and place.protocol == "gemini":
            in_query, rest = without_key(place.rest)
            place = replace(place, rest=rest)
        path, _, query = place.rest.partition("?")
        dialect = dialect_for(place.protocol, arrival.method, path)
        watch.dialect = dialect = upgraded(path, query, dialect) if arrival.upgrade else dialect
        key = snapshot.keys.find(arrival.fields, in_query) if snapshot.keys is not None else None
        if isinstance(key, Refusal):
            return key
        caller = _caller(arrival, call, key, snapshot.proxies)
        if isinstance(caller, Refusal):
            call.caller = key.caller(call.call_id) if key is not None else None
            return caller
        call.caller = caller
        body = await arrival.body() if dialect.metered or arrival.is_here else None
        received_ns = time.monotonic_ns()
        call.ask = dialect.ask(body or b"")
        call.request = _request(arrival, place, call, body, snapshot, received_ns)
        may_work = arrival.method in MAY_SPEND or arrival.upgrade
        may_spend = may_work and call.ask.operation not in FREE
        refusal = None
        if key is not None:
            refusal = await forbid(key, call.ask, call.request, may_spend=may_spend, upgrade=arrival.upgrade)
        if refusal is not None:
            return refusal
        claims = self._claims(call, watch, caller) if may_spend else ()
        if isinstance(claims, Refusal):
            return claims
        call.claims = claims
        call.uses = _uses(call, snapshot) if may_work and snapshot.limits is not None else ()
        return await self._reserve(call, claims, call.uses, arrival, snapshot.held_wait_s)

    def _claims(self, call: Call, watch: Watch, caller: Caller) -> tuple[Claim, ...] | Refusal:
        request, ask, snapshot = call.request, call.ask, watch.snapshot
        if request is None or ask is None:
            return ()
        facts = None
        if snapshot.ledger.asks_more:
            facts = way_of(ask.model, request.provider, request.upstream)
        if not ask.metered:
            claims = snapshot.ledger.claims(caller, call.started_at, 0, 0, facts)
        else:
            tariff = snapshot.tariff(request.provider, request.priced_as or ask.model, call.started_at)
            if tariff.unpriced and snapshot.refuse_unpriced:
                return _unpriced(ask.model)
            amounts = bound(ask, tariff)
            likely, most = amounts.likely_nanousd, amounts.most_nanousd
            over = snapshot.ledger.over_ceiling(caller, likely, most, facts)
            if over is not None:
                return no_room(Kind.BUDGET_EXCEEDED, over[0], over[1], 0, 0)
            call.bound = amounts
            claims = snapshot.ledger.claims(caller, call.started_at, likely, most, facts)
            if not amounts.most_nanousd:
                claims = tuple([replace(claim, limit_nanousd=None) for claim in claims])  # free: counted, not limited
        if ask.fault and _is_limited(claims):
            return Refusal(
                Kind.MALFORMED_BODY,
                f"A budget applies to this call, so the gateway has to read its body, and cannot: {ask.fault}.",
            )
        return claims

    async def _reserve(
        self, call: Call, claims: tuple[Claim, ...], uses: tuple[Use, ...], arrival: Arrival, held_wait_s: float
    ) -> Refusal | None:
        """All claims and uses or none. A store that is down stops only calls that somebody limits."""
        if not (claims or uses):
            return None
        began_ns = time.monotonic_ns()
        try:
            answer = await self._store.reserve(call.call_id, claims, _mark(call, claims), uses)
            if isinstance(answer, Refusal) and _is_in_use(answer) and held_wait_s:
                answer = await self._wait_for_room(call, claims, uses, arrival, answer, held_wait_s)
        except Failure as failure:
            limited = bool(uses) or _is_limited(claims)
            if limited and not (self._goes_on and failure.kind is Kind.STORE_UNAVAILABLE):
                raise
            if limited:
                self.on_unheld()
            log.debug(
                "call %s goes on without a hold: %s", call.call_id, failure.message, extra={"call_id": call.call_id}
            )
            return None
        finally:
            call.reserve_ns = time.monotonic_ns() - began_ns
        if isinstance(answer, Refusal):
            return answer
        call.hold = answer
        return None

    async def _wait_for_room(
        self,
        call: Call,
        claims: tuple[Claim, ...],
        uses: tuple[Use, ...],
        arrival: Arrival,
        refusal: Refusal,
        held_wait_s: float,
    ) -> Hold | Refusal:
        """Ask again whenever something was booked here, and now and then for what others book, until there is room, none
        will come, or the time is over.
        """
        started = time.monotonic()
        left = held_wait_s if self._waiting < MOST_WAITING or refusal.excess is None else 0
        answer: Hold | Refusal = refusal
        self._waiting += 1
        try:
            while left > 0 and not arrival.gone and _is_in_use(answer):
                await self._settler.booked(min(left, ASK_AGAIN_S))
                answer = await self._store.reserve(call.call_id, claims, _mark(call, claims), uses)
                left = held_wait_s - (time.monotonic() - started)
        finally:
            self._waiting -= 1
        call.waited_ns = int((time.monotonic() - started) * 1e9)
        return answer

    # -- there and back -----------------------------------------------------------------------------------------------

    async def _forward(self, arrival: Arrival, call: Call, watch: Watch) -> None:
        request, snapshot = call.request, watch.snapshot
        if request is None:
            raise ValueError("a call is forwarded after it was admitted")
        pool = snapshot.pools[request.upstream]
        arrival.drain_when_left(snapshot.drain_s if watch.dialect.metered else 0.0)
        extension = extension_of(call, watch, self._store, arrival.connection.cut)
        try:
            if arrival.upgrade and not arrival.reply.http10:
                sent = await relay_upgrade(arrival, request, pool, watch)
            else:
                sent = await send(arrival, request, pool, watch, drain_bytes=snapshot.drain_bytes)
        finally:
            if extension is not None:
                await extension.close()  # nothing may be set aside any more for a call that is being settled
        call.ending = ending_of(arrival, call, sent)
        if sent.set_aside is not None:
            self.on_set_aside(request.upstream, sent.set_aside)
        if extension is not None and sent.failure is not None and sent.failure is extension.failure:
            call.refusal = extension.refusal
        elif sent.failure is not None and not arrival.reply.started:
            call.refusal = sent.failure.refusal()

    # -- the way out --------------------------------------------------------------------------------------------------

    @staticmethod
    def _refuse(arrival: Arrival, call: Call, refusal: Refusal, dialect: Dialect) -> None:
        """Answer what nobody has answered yet."""
        reply = arrival.reply
        if arrival.gone:
            reply.started = reply.ended = reply.close = True
        else:
            status, headers, body = refusal_answer(refusal, dialect, call, time.time())
            reply.whole(status, REASONS[status], headers, body, head_only=arrival.method == "HEAD")
        if call.ending is None:
            call.ending = ending_refused(call, refusal, reply.status, gone=arrival.gone)


def refusal_answer(refusal: Refusal, dialect: Dialect, call: Call | None, now: float) -> tuple[int, Headers, bytes]:
    """(status, header fields, body) of the gateway's own answer, in the dialect of the route."""
    body = dialect.refuse(refusal)
    headers: Headers = (
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *(identity_headers(call) if call is not None else ()),
        *retry_headers(refusal, now),
        *(CHALLENGE if refusal.kind is Kind.AUTHENTICATION else ()),
    )
    return MEANINGS[refusal.kind].status, headers, body


def _caller(arrival: Arrival, call: Call, key: Key | None, proxies: Proxies) -> Caller | Refusal:
    if key is not None:
        address = proxies.caller(arrival.address, arrival.headers) if key.networks else ""
        refusal = key.refuse(call.started_at, address)
        if refusal is not None:
            return refusal
    return identify(arrival.fields, call.call_id, key)


def _request(
    arrival: Arrival, place: Place, call: Call, body: bytes | None, snapshot: Snapshot, received_ns: int
) -> Request:
    caller, ask = call.caller, call.ask
    if caller is None or ask is None:
        raise ValueError("a request is made of what is asked, and by whom")
    upstream, target = snapshot.routes.choose(place, ask.model)
    sent_body = None
    if ask.stream and body is not None and snapshot.stream_usage.ask(upstream, caller.team, ask.model):
        sent_body = with_usage(ask, body)
    pool = snapshot.pools[upstream]
    return Request(
        arrival.method,
        arrival.target,
        arrival.headers,
        arrival.fields,
        upstream,
        place.protocol,
        target,
        pool.endpoint.provider,
        body,
        snapshot.models[upstream].get(ask.model, "") if upstream in snapshot.models else "",
        sent_body,
        snapshot.traceparent(caller, call.call_id) if snapshot.traceparent is not None else b"",
        pool.keys is not None and is_of_one_account(ask, body),
        received_ns,
    )


def _is_limited(claims: Sequence[Claim]) -> bool:
    for claim in claims:  # noqa: SIM110 - any() of a generator costs 0.6 us more
        if claim.limit_nanousd is not None:
            return True
    return False


def _mark(call: Call, claims: tuple[Claim, ...]) -> int | None:
    """What the call costs if this process dies: its hold, unless all its limits say that the likely cost will do."""
    if call.bound is None:
        return None
    estimated = False
    for claim in claims:
        if claim.limit_nanousd is not None:
            if not claim.lost_estimate:
                return None
            estimated = True
    return call.bound.likely_nanousd if estimated else None


def _is_in_use(answer: Hold | Refusal) -> bool:
    """Whether room comes back when calls end that are running."""
    if not isinstance(answer, Refusal):
        return False
    return answer.kind is Kind.BUDGET_HELD or (answer.excess is not None and answer.excess.unit == PLACES)


def _uses(call: Call, snapshot: Snapshot) -> tuple[Use, ...]:
    """What the call uses of limits on requests, tokens and calls in flight."""
    request, ask, caller, limits = call.request, call.ask, call.caller, snapshot.limits
    if request is None or ask is None or caller is None or limits is None:
        return ()
    read = written = 0
    if limits.counts_tokens and ask.metered:
        tariff = snapshot.tariff(request.provider, request.priced_as or ask.model, call.started_at)
        read, written = likely_tokens(ask, tariff)
    return limits.uses(caller, way_of(ask.model, request.provider, request.upstream), read, written)


def _say_nothing(*_: object) -> None:
    """Nobody listens."""


def _unpriced(model: str) -> Refusal:
    return Refusal(
        Kind.MODEL_UNPRICED,
        f"The model {model[:80]!r} has no price, and this gateway refuses what it cannot price. "
        "Ask its operator to add a price (pricing.overrides) or to allow estimates (metering.unpriced).",
    )
