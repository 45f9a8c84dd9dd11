"""One attempt: the answer of one upstream connection, copied to the front as it arrives.

The connection pushes what it receives into ``feed``; llhttp takes it apart; every read of the socket becomes at most one
write to the client and *then* one look for the watcher. There is no task and no queue between the two sockets (a queue
costs 7.5 us a chunk, a plain loop 0.23; measured). Back-pressure is passed on: a client that does not read stops the
upstream's socket.

Knows HTTP and the two sides. Does not know what the bytes mean: the watcher, given by the caller, does.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import httptools

from gateway.call import Fields, Headers
from gateway.errors import Failure
from gateway.wire import failures
from gateway.wire.farewell import Farewell
from gateway.wire.headers import names_token, noted, value_of

if TYPE_CHECKING:
    from gateway.wire import LastWords, Line, Rewriter, Watcher
    from gateway.wire.deadlines import Deadlines
    from gateway.wire.reply import Reply

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
KEEP_BACK_BYTES = 256 * 1024
"""An answer that its watcher wants whole is kept back up to this size, and then let go."""
OVERHEAD_BYTES = 256 * 1024  # most of a head, its interim ones included, of trailers, or of what else is no body
KEEP_BACK_NS = 250_000_000
"""... and for this long: a provider that dribbles keep-alive white space is passed on as it comes."""


class Relay:
    """One answer from head to end. ``finished`` resolves when nothing more will happen; then read the other fields.

    ``failure`` is None when the answer was whole. ``front_gone`` says that the client left first. ``untouched`` is True as
    long as the upstream sent no byte at all.
    """

    __slots__ = (
        "_bodiless", "_body_bytes", "_content_length", "_deadlines", "_drain", "_drain_bytes", "_drain_until_ns", "_failing", "_fields",
        "_first_byte_due_ns", "_first_byte_limit_ns", "_flows", "_headers", "_http11", "_idle_ns", "_keep_until_ns", "_kept",
        "_last_body_bytes", "_last_ns", "_line", "_method", "_over", "_overhead_bytes", "_parser", "_paused", "_pieces", "_reply",
        "_rewriter", "_trailers", "_until_close", "_watcher", "failure", "finished", "first_byte_ns", "front_gone", "head_in", "on_body",
        "reason", "response_bytes", "sent_ns", "status", "untouched", "upgraded",
    )  # fmt: skip

    def __init__(
        self, method: str, reply: Reply, watcher: Watcher, *, drain_bytes: int, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._method = method
        self._reply = reply
        self._watcher = watcher
        self._drain_bytes = drain_bytes
        self._drain = False
        self._line: Line | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._fields: Fields = {}
        self._trailers: list[tuple[bytes, bytes]] = []
        self.reason = b""
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append
        """What the parser calls with each piece of a body; it is told so when it is made."""
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._kept: list[bytes] | None = None
        self._deadlines: Deadlines | None = None
        self._keep_until_ns = self._first_byte_due_ns = self._first_byte_limit_ns = self._idle_ns = 0
        self._drain_until_ns = self._last_ns = 0
        self._rewriter: Rewriter | None = None
        self._content_length: bytes | None = None
        self._bodiless = self._until_close = self._http11 = self._over = False
        self._failing: Failure | None = None
        self._paused = self._flows = False  # flows: what comes goes on at once, nobody changes it or keeps it back
        self._body_bytes = self._last_body_bytes = self._overhead_bytes = 0
        self.head_in = False
        self.untouched = True
        self.upgraded: bytes | None = None
        self.front_gone = False
        self.failure: Failure | None = None
        self.status = 0
        self.response_bytes = 0
        self.sent_ns = 0
        self.first_byte_ns = 0
        self.finished: asyncio.Future[None] = loop.create_future()

    @property
    def headers(self) -> Headers:
        """The head's fields."""
        return tuple(self._headers)

    # -- the upstream's side ------------------------------------------------------------------------------------------

    def begin(self, line: Line, deadlines: Deadlines, *, first_byte_s: float, idle_s: float) -> None:
        """The request is on its way over this line. Time-outs in seconds, 0 = none."""
        self._line = line
        self._deadlines = deadlines
        self.sent_ns = time.monotonic_ns()
        if idle_s:
            self._idle_ns = int(idle_s * 1e9)
        if first_byte_s:
            self._first_byte_limit_ns = int(first_byte_s * 1e9)
            self._first_byte_due_ns = self.sent_ns + self._first_byte_limit_ns
            deadlines.watch(self, self._first_byte_due_ns)

    def uploaded(self) -> None:
        """One more piece of the request's body: until here nobody could have answered."""
        if self._first_byte_due_ns:
            self._first_byte_due_ns = time.monotonic_ns() + self._first_byte_limit_ns

    def feed(self, data: bytes) -> None:
        """Bytes from the upstream."""
        self.untouched = False
        self._last_ns = time.monotonic_ns()
        parser = self._parser
        if parser is None:
            if self.upgraded is not None:  # frames before the connection is taken over
                self.upgraded += data
            return
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.upgraded = data[upgrade.args[0] :]
            self._parser = None
        except httptools.HttpParserError:
            # the parser wraps what a callback of ours raises: that is a bug of ours, or a head that we refuse
            if self._over:  # what follows a whole answer is not its fault
                self._http11 = False
            else:
                self._failing = self._failing or failures.unreadable()
            self._flows = False
        pieces = self._pieces
        if self._flows and pieces:
            piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            self._body_bytes += len(piece)
            self._reply.body(piece)
            self._watcher.chunk(piece)
            return
        if self.finished.done():
            return
        if self.upgraded is not None:
            self.finished.set_result(None)
            return
        if not pieces:
            self._bound(len(data))
        if self.head_in:
            self._pass_on()
        if self._failing is not None:
            self._break(self._failing)
        elif self._over:
            self._complete()
        else:
            self._flows = self._reply.started and self._rewriter is None and not self._drain

    def eof(self) -> None:
        """The upstream closed its side: the end of a body without length, or a break."""
        if self.finished.done():
            return
        if self.head_in and self._until_close:
            self._over = True
            self._complete()
        else:
            self._break(failures.closed_early())

    def lost(self, failure: Failure) -> None:
        """The connection broke, timed out or was given up."""
        if not self.finished.done():
            self._break(failure)

    def cut(self, failure: Failure, last: LastWords | None = None) -> None:
        """The gateway ends it: with last words, if they fit into the body."""
        if last is None or self._content_length is not None or not self._reply.started:
            self.lost(failure)
        elif not self.finished.done():
            self._flows = False
            self._rewriter = farewell = Farewell(self._rewriter, last, partial(self._fail, failure))
            if words := farewell.feed(b""):
                self._reply.body(words)
                self._break(failure)

    def _fail(self, failure: Failure) -> None:
        self._failing = failure

    def _bound(self, count: int) -> None:
        """A read without a byte of a body: so many of them in a row that hold no more than a head or trailers have an end."""
        if self._body_bytes != self._last_body_bytes:
            self._last_body_bytes, self._overhead_bytes = self._body_bytes, 0
        self._overhead_bytes += count
        if self._overhead_bytes > OVERHEAD_BYTES and not self._over:
            self._failing = self._failing or failures.unreadable()

    # -- llhttp's callbacks -------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._over:
            raise ValueError("nobody asked for a second answer")

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        (self._trailers if self.head_in else self._headers).append((name, value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        if parser is None or self._failing is not None:  # one head that cannot be was enough
            return
        status = parser.get_status_code()
        if status < 100 or (self.reason != b"OK" and _CONTROL.search(self.reason)):  # the parser lets both pass
            self._failing = failures.unreadable()
            return
        if status < 200 and status != 101:
            self._reply.interim(status, self.reason, tuple(self._headers))
            return
        self._fields = fields = noted(self._headers)
        if not self._frame(status, fields):
            return
        self.head_in = True
        self.first_byte_ns = self._last_ns
        self._http11 = parser.get_http_version() == "1.1"
        if status == 101:
            self._failing = failures.unreadable()  # unless the parser says that it is an upgrade
            return
        if self._idle_ns:
            self._watch_until(self._last_ns + self._idle_ns)
        if self._watcher.head(status, fields):
            self._kept = []
        elif self._content_length is None and not self._bodiless:
            self._rewriter = self._watcher.rewriter()
        if self._bodiless:
            self._over = True
            if b"transfer-encoding" in fields:
                self._http11 = False  # some send chunks all the same

    def on_message_complete(self) -> None:
        if self.head_in:
            self._over, self._flows = True, False
        else:  # an interim answer: what follows is the next head
            self._headers.clear()
            self.reason = b""

    def _frame(self, status: int, fields: Fields) -> bool:
        """How the body ends. False for a coding other than chunked: RFC 9112 6.1 has them, but undoing one would change
        the body and passing it on would promise a coding of this hop.
        """
        self.status = status
        self._bodiless = self._method == "HEAD" or status in (204, 304)
        codings = fields.get(b"transfer-encoding")
        self._content_length = value_of(fields, b"content-length")
        if codings is not None and any(coding.strip().lower() != b"chunked" for coding in codings):
            self._failing = failures.unreadable()
            return False
        if status == 407 and self._line is not None and self._line.by_proxy:
            self._failing = failures.proxy_refused()
            return False
        self._until_close = codings is None and self._content_length is None and not self._bodiless
        return True

    # -- passing on ---------------------------------------------------------------------------------------------------

    def _pass_on(self) -> None:
        """Everything that one read brought, in one write; then the watcher's look."""
        pieces = self._pieces
        if self._over and pieces and self._bodiless:  # a body where none may be: drop it with the connection
            self._http11 = False
            pieces.clear()
        piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._body_bytes += len(piece)
        if self._failing is not None and not self._body_bytes and not self._reply.started:
            return  # nothing of it is worth showing: the client gets a clean error instead
        if self._kept is not None:
            self._keep_back(self._kept, piece)
            return
        shown = piece if self._rewriter is None or not piece else self._rewriter.feed(piece)
        if not self._reply.started:
            self._send_head(shown, whole=False)
        elif shown:
            self._reply.body(shown)
        if piece:
            self._watcher.chunk(piece)
            if self._drain and self._body_bytes > self._drain_bytes:
                self._failing = failures.client_left()

    def _keep_back(self, kept: list[bytes], piece: bytes) -> None:
        if piece:
            kept.append(piece)
            self._watcher.chunk(piece)
        if self._over:
            self._let_go(whole=True)
        elif self._body_bytes > KEEP_BACK_BYTES:
            self._let_go(whole=False)
        elif not self._keep_until_ns:
            self._keep_until_ns = self._last_ns + KEEP_BACK_NS
            self._watch_until(self._keep_until_ns)

    def _let_go(self, *, whole: bool) -> None:
        kept, self._kept = self._kept or [], None
        self._send_head(b"".join(kept), whole=whole)

    def _send_head(self, first_piece: bytes, *, whole: bool) -> None:
        self._reply.start(
            self.status,
            self.reason,
            self._headers,
            self._fields,
            extra=self._watcher.extra(whole=whole),
            sized=self._content_length is not None,
            bodiless=self._bodiless,
            first=first_piece,
        )

    # -- endings ------------------------------------------------------------------------------------------------------

    def _complete(self) -> None:
        if self.finished.done():
            return
        if self._kept is not None:
            self._let_go(whole=True)
        self._write_rest()
        self._reply.end(self._trailers)
        closes = self._until_close or names_token(self._fields, b"connection", b"close")
        self._leave(reusable=self._http11 and not closes)

    def _break(self, failure: Failure) -> None:
        """The answer will not be whole. What the client already has stands; it is shown that the rest is missing."""
        self.failure = failure
        if self._kept and not self.front_gone:
            self._let_go(whole=False)
        if self._reply.started:
            self._write_rest()
            self._reply.break_off()
        self._leave(reusable=False)

    def _write_rest(self) -> None:
        rest = self._rewriter.end() if self._rewriter is not None else b""
        if rest:
            self._reply.body(rest)

    def _leave(self, *, reusable: bool) -> None:
        self._parser = None  # it knows us: the call and all that belongs to it would wait for the garbage collector
        self.response_bytes = self._body_bytes
        if self._deadlines is not None:
            self._deadlines.forget(self)
        if not self.finished.done():
            self.finished.set_result(None)
        line, self._line = self._line, None
        if line is not None:
            if self._paused:
                line.resume()
            line.done(reusable=reusable)

    # -- the front's side ---------------------------------------------------------------------------------------------

    def front_lost(self, *, drain_s: float) -> None:
        """The client left. Without ``drain_s`` the upstream is told at once; with it, the rest is read (for the usage at
        its end), for that many seconds at most.
        """
        self.front_gone = True
        if self.finished.done():
            return
        if not drain_s:
            self._break(failures.client_left())
            return
        self._drain, self._flows = True, False
        self.front_resumed()
        self._drain_until_ns = time.monotonic_ns() + int(drain_s * 1e9)
        self._watch_until(self._drain_until_ns)

    def front_paused(self) -> None:
        """The client does not keep up."""
        if self._line is not None and not self._paused:
            self._paused = True
            self._line.pause()

    def front_resumed(self) -> None:
        """It has room again."""
        if self._line is not None and self._paused:
            self._paused = False
            self._last_ns = time.monotonic_ns()  # until now it was the client who was slow
            self._line.resume()

    # -- time-outs ----------------------------------------------------------------------------------------------------

    def look(self, now_ns: int) -> int:
        """See ``deadlines.Timed``: what is overdue is given up, or given out where it was only kept back."""
        if self.finished.done():
            return 0
        if self._kept is not None and self._keep_until_ns and now_ns >= self._keep_until_ns:
            self._let_go(whole=False)
        if self._paused and not self._drain:
            self._last_ns = now_ns  # it is the client who is slow
        for due_ns, failure in self._limits():
            if now_ns >= due_ns:
                self.lost(failure())
                return 0
        kept = [self._keep_until_ns] if self._kept is not None and self._keep_until_ns else []
        return min([*kept, *(due_ns for due_ns, _ in self._limits())], default=0)

    def _limits(self) -> Iterator[tuple[int, Callable[[], Failure]]]:
        """When it is to be given up, and why."""
        if self._drain_until_ns:
            yield self._drain_until_ns, failures.client_left
        if self._first_byte_due_ns and not self.head_in:
            yield self._first_byte_due_ns, failures.late
        if self._idle_ns and self.head_in:
            yield self._last_ns + self._idle_ns, failures.silent

    def _watch_until(self, due_ns: int) -> None:
        if self._deadlines is not None:
            self._deadlines.watch(self, due_ns)
