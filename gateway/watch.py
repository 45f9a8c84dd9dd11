"""The Watch: what is seen of one answer while it goes by, and the header fields that the gateway adds to it.

Satisfies ``wire.Watcher``. It hands the body's pieces to a tap and, for an answer that is seen whole before its head
goes out, prices it in time for the head. It cannot fail a call: what goes wrong here is logged, and the call is settled
from what is known.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from gateway.call import Metered
from gateway.dialects import Dialect, Reading, Work
from gateway.dialects.elements import AfterElement, ElementSplitter
from gateway.dialects.sse import AfterEvent, EventSplitter
from gateway.dialects.stream_usage import Unasked
from gateway.metering.charge import charge
from gateway.metering.frames import FrameReader
from gateway.metering.meter import compare, meter
from gateway.metering.tap import Tap
from gateway.metering.whole import Whole
from gateway.wire.headers import first, value_of
from gateway.wire.websocket import POLICY_VIOLATION, close_frame
from pricing.money import Cost, format_usd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gateway.call import Call, Fields, Headers
    from gateway.errors import Refusal
    from gateway.snapshot import Snapshot
    from gateway.wire import LastWords, Rewriter
    from pricing.usage import Usage

log = logging.getLogger("gateway.watch")

JSON = b"application/json"
PLAIN = frozenset(("", "identity"))
"""Codings of answers that are what they are."""
MEDIA = (b"audio/", b"image/", b"video/", b"application/octet-stream")
"""Answers that tell nothing to read."""
ARRAYS = frozenset(("generate_content",))
"""Operations whose streams can be a JSON array (Gemini, without ``alt=sse``)."""
SAYS = {
    "x-tollgate-call-id": "Every answer: names the call, for /api/v1/calls/{call_id} and `tollgate calls`.",
    "x-correlation-id": "Every answer: what the request brought, or the call id.",
    "x-tollgate-cost-usd": "Metered JSON answers: what the call cost, in dollars, exactly.",
    "x-tollgate-tokens": "The same: in=..;out=..;cached=.., cached being a part of in.",
    "x-tollgate-usage": "The same: whose figures these are: provider, counted or estimated.",
    "x-tollgate-budget-remaining-usd": "The same, where a budget applies: the least that any of them has left.",
}
"""The fields that are added to an answer, each in a sentence for a reference."""


class Watch:
    """One call's answer. ``billable`` says whether the provider can be expected to charge for what happened."""

    __slots__ = (
        "_answered",
        "_is_plain",
        "_plain_stream",
        "_reading",
        "_tap",
        "call",
        "chunk",
        "dialect",
        "look",
        "snapshot",
    )

    def __init__(self, call: Call, snapshot: Snapshot, dialect: Dialect) -> None:
        self.call = call
        self.snapshot = snapshot
        self.dialect = dialect
        self._tap: Tap | Whole | None = None
        self._reading: Reading | None = None
        self._answered = False
        self._plain_stream = self._is_plain = False
        self.chunk: Callable[[bytes], None] = _unseen
        """See ``wire.Watcher``: the tap's own, once there is one."""
        self.look: tuple[Callable[[Reading, int], int], int] | None = None
        """Who looks at what a stream tells while it runs, and after how many bytes first (``Tap.show``)."""

    # -- wire.Watcher -------------------------------------------------------------------------------------------

    def head(self, status: int, fields: Fields) -> bool:
        """A metered answer is read; one that is no stream is kept back, so that its cost can stand in its head."""
        dialect, ask = self.dialect, self.call.ask
        if not (dialect.metered or dialect.follows) or not 200 <= status < 300:
            return False
        self._answered = dialect.metered
        kind = (value_of(fields, b"content-type") or b"").lower()
        coding = value_of(fields, b"content-encoding")
        encoding = coding.decode("latin-1").strip().lower() if coding is not None else ""
        self._is_plain = encoding in PLAIN
        streamed = ask is not None and ask.stream and b"content-length" not in fields
        if kind == JSON and self._is_plain and not (streamed or dialect.lines):  # the usual answer
            whole = self._tap = Whole(dialect)
            self.chunk, self._plain_stream = whole.feed, False
            return self._answered and self.snapshot.response_headers
        stream = kind.startswith(b"text/event-stream")
        array = streamed and b"json" in kind and dialect.operation in ARRAYS
        tap = self._tap = Tap(dialect, stream, encoding, media=kind.startswith(MEDIA), array=array)
        self.chunk = tap.feed
        self._plain_stream = stream and self._is_plain
        if self.look is not None and (stream or array):
            tap.show(*self.look)
        if streamed:
            return False
        return self._answered and self.snapshot.response_headers and b"json" in kind

    def upgraded(self, headers: Headers) -> None:
        """The connection is a WebSocket from here on, and its frames come as chunks."""
        if self.dialect.operation == "realtime":
            self._answered = True
            extensions = (first(headers, b"sec-websocket-extensions") or b"").decode("latin-1").lower()
            tap = self._tap = Tap(self.dialect, True, "", frames=FrameReader(extensions))
            self.chunk = tap.feed
            self._is_plain = True
            if self.look is not None:
                tap.show(*self.look)

    def rewriter(self) -> Rewriter | None:
        """Where we asked for usage in the caller's name, the caller gets the stream without it."""
        touched = self.call.request is not None and self.call.request.sent_body is not None
        return Unasked() if touched and self._plain_stream else None

    def extra(self, *, whole: bool) -> Headers:
        """The gateway's own fields (INTERFACE 5)."""
        if not self.snapshot.response_headers:
            return ()
        headers = identity_headers(self.call)
        if whole and self._answered:
            try:
                if self.told:
                    self.account(billable=True)
                    headers += _cost_headers(self.call)
            except Exception:
                call_id = self.call.call_id
                log.exception("could not price an answer before its head; call %s", call_id, extra={"call_id": call_id})
        return headers

    # -- while it runs ------------------------------------------------------------------------------------------------

    def so_far(self) -> tuple[Reading, int]:
        """What a stream has told until now, and its bytes."""
        if not isinstance(self._tap, Tap):
            return Reading(), 0
        self._tap.catch_up()
        return self._tap.reading, self._tap.bytes

    def look_in(self, count: int) -> None:
        """Have ``look`` look again after so many bytes."""
        if isinstance(self._tap, Tap) and self.look is not None:
            self._tap.show(self.look[0], count)

    def price(self, usage: Usage, reading: Reading) -> int:
        """Nano-dollars that the call would cost if this were all."""
        ask, request = self.call.ask, self.call.request
        if ask is None or request is None:
            return 0
        tier, raw = reading.service_tier or ask.service_tier, reading.usage
        metered = Metered(usage, "provider", "usage", reading.model, tier, raw, reading.largest_input)
        asked = request.priced_as or ask.model
        return charge(self.snapshot.book, request.provider, metered, asked, int(self.call.started_at)).nanousd

    def last_words(self, refusal: Refusal) -> LastWords | None:
        """How a stream ends that we end: an error in its own form; None where it cannot carry one."""
        splitter = self._tap.catch_up() if isinstance(self._tap, Tap) and self._is_plain else None
        if type(splitter) is EventSplitter:
            return AfterEvent(splitter.tail, self.dialect.interrupt(refusal))
        if type(splitter) is ElementSplitter:
            return AfterElement(splitter, self.dialect.refuse(refusal))
        if type(splitter) is FrameReader and splitter.is_between:
            return AfterEvent(b"", close_frame(POLICY_VIOLATION, f"{refusal.kind.value}: {refusal.budget}"))
        return None

    # -- afterwards ---------------------------------------------------------------------------------------------------

    @property
    def answered(self) -> bool:
        """A 2xx head of a metered operation was seen: the provider worked for this call."""
        return self._answered

    @property
    def reading(self) -> Reading:
        """What the answer told; empty when there was none."""
        if self._reading is None:
            self._reading = self._tap.finish() if self._tap is not None else Reading()
        return self._reading

    @property
    def told(self) -> bool:
        """The provider said what it used: accounting is a matter of microseconds. Otherwise text has to be counted, which
        belongs in a thread: much of it takes milliseconds, and the first of it builds a vocabulary (0.3 s).
        """
        reading = self.reading
        return reading.usage is not None and reading.finished

    def account(self, *, billable: bool) -> None:
        """Fill ``usage`` and ``cost`` of the call. Once; quiet; may run in a thread."""
        call = self.call
        ask, request = call.ask, call.request
        if call.usage is not None or ask is None or request is None:
            return
        usage = meter(
            self.dialect,
            ask,
            self.reading,
            request.body,
            response_bytes=self._tap.bytes if self._tap is not None else 0,
            answered=billable,
            counter=self.snapshot.counter,
        )
        if usage.source:
            asked = request.priced_as or ask.model
            cost = charge(self.snapshot.book, request.provider, usage, asked, int(call.started_at))
        else:
            cost = Cost(0)
        call.usage, call.cost = usage, cost

    def compare(self) -> None:
        """Fill ``compared``: for a call that its provider metered, what we would have counted. May run in a thread."""
        call = self.call
        if call.usage is None or call.usage.source != "provider" or call.ask is None or call.request is None:
            return
        if call.request.body is not None:
            counter, used = self.snapshot.counter, call.usage.usage
            call.compared = compare(self.dialect, call.ask, self.reading, call.request.body, used, counter)

    @property
    def works(self) -> Iterable[Work]:
        """Other work that a whole answer told of."""
        if not self.dialect.follows or self.call.ending is None:
            return ()
        whole = self.dialect.metered or self.call.ending.outcome == "completed"
        return self.reading.works.values() if whole else ()


def _unseen(piece: bytes) -> None:
    """Nothing of it can be read."""


def identity_headers(call: Call) -> tuple[tuple[bytes, bytes], ...]:
    """The two fields that every answer carries."""
    correlation_id = call.caller.correlation_id if call.caller is not None else call.call_id
    return ((b"x-tollgate-call-id", call.call_id.encode()), (b"x-correlation-id", correlation_id.encode()))


def _cost_headers(call: Call) -> tuple[tuple[bytes, bytes], ...]:
    usage, cost = call.usage, call.cost
    if usage is None or cost is None or not usage.source:
        return ()
    counts, hold = usage.usage, call.hold
    tokens = b"in=%d;out=%d;cached=%d" % (counts.input_tokens, counts.output_tokens, counts.cached_input)
    told = (
        (b"x-tollgate-cost-usd", format_usd(cost.nanousd).encode()),
        (b"x-tollgate-tokens", tokens),
        (b"x-tollgate-usage", usage.source.encode()),
    )
    if hold is None or hold.least_left_nanousd is None:
        return told
    left = hold.least_left_nanousd + hold.amount_nanousd - cost.nanousd
    return (*told, (b"x-tollgate-budget-remaining-usd", format_usd(left).encode()))
