"""Whatever an upstream sends, however it is cut into reads: what the client gets is whole, or is seen not to be.

Sound and mutated answers are fed to a connection of a pool, and what it writes to the front is read as a strict client would.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.call import Headers
from gateway.wire import Rewriter
from gateway.wire.endpoint import Endpoint
from gateway.wire.relay import Relay
from gateway.wire.reply import Reply
from gateway.wire.upstreams import Connection, Pool
from tests.harness.answers import Read, read
from tests.harness.messages import chunked
from tests.harness.sockets import Transport

LOOP = asyncio.new_event_loop()
ENDPOINT = Endpoint("up", "openai", "openai", "up.test", 80, False, b"up.test", "")


@pytest.fixture(scope="module", autouse=True)
def _loop() -> Iterator[None]:
    yield
    LOOP.close()


class Watcher:
    """Sees; may want the answer whole."""

    def __init__(self, *, keep: bool) -> None:
        self.keep = keep
        self.seen: list[bytes] = []

    def head(self, status: int, headers: Headers) -> bool:
        return self.keep

    def upgraded(self, headers: Headers) -> None:
        raise AssertionError

    def rewriter(self) -> Rewriter | None:
        return None

    def chunk(self, piece: bytes) -> None:
        self.seen.append(piece)

    def extra(self, *, whole: bool) -> Headers:
        return ((b"x-whole", b"%d" % whole),)


@dataclass(frozen=True)
class Asked:
    """Of what the answer is one, and of whom."""

    method: str = "POST"
    http10: bool = False
    keep: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of it. ``reused``: the connection was there for the next exchange when all was over."""

    failed: str
    read: Read
    reset: bool
    reused: bool
    upgraded: bytes | None


def play(pieces: list[bytes], asked: Asked, end: str) -> Outcome:
    return LOOP.run_until_complete(_play(pieces, asked, end))


async def _play(pieces: list[bytes], asked: Asked, end: str) -> Outcome:
    pool, front, up = Pool(ENDPOINT), Transport(), Transport()
    connection = Connection(pool)
    connection.connection_made(up)
    pool._all.add(connection)
    watcher = Watcher(keep=asked.keep)
    relay = Relay(asked.method, Reply(front, http10=asked.http10, close=False), watcher, drain_bytes=1 << 20, loop=LOOP)
    finished: list[int] = []
    relay.finished.add_done_callback(lambda _: finished.append(1))
    connection.begin(relay, b"POST / HTTP/1.1\r\n\r\n", None)
    for piece in pieces:
        if not up.closed:
            connection.data_received(piece)
    upgraded, reused = relay.upgraded, pool.idle == 1
    if not up.closed:
        if end == "eof":
            connection.eof_received()
        connection.abort()
    connection.connection_lost(None)
    await asyncio.sleep(0)
    assert finished == [1]
    assert (pool.idle, pool.busy, len(pool.deadlines)) == (0, 0, 0)
    found = read(front.sent, asked.method)
    assert found.content == b"".join(watcher.seen)[: len(found.content)]
    assert front.closed == (relay.failure is not None and found.head is not None)
    return Outcome(relay.failure.kind if relay.failure else "", found, front.aborted, reused, upgraded)


# -- what is sent -----------------------------------------------------------------------------------------------------------

VERSIONS = (b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.2", b"http/1.1")
STATUSES = (b"200 OK", b"200 OK", b"200", b"201 Created", b"204 No Content", b"205 X", b"304 Not Modified", b"404 \xff", b"500 ",
            b"999 Odd", b"407 Proxy", b"042 Odd", b"101 Switching", b"1000 Odd", b"20 Odd")  # fmt: skip
FIELDS = (b"Content-Type: text/event-stream", b"X-A: 1", b"x-a:2", b"X-Empty:", b"Connection: close", b"Connection: keep-alive, X-A",
          b"Keep-Alive: timeout=5", b"X-Long: " + b"v" * 3000, b"Trailer: X-T",
          b"Connection: upgrade", b"Upgrade: websocket", b"X-Fold: a\r\n b", b"X-Bad name: 1", b": none", b"X-Nul: a\x00b", b"X-Cr: a\rb")  # fmt: skip
ENCODINGS = (b"Transfer-Encoding: chunked", b"transfer-encoding: Chunked", b"Transfer-Encoding: gzip, chunked",
             b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip", b"Transfer-Encoding: identity",
             b"Transfer-Encoding: chunked\r\nContent-Length: 3", b"Transfer-Encoding: chunked, chunked")  # fmt: skip
LENGTHS = (b"%d", b"%d", b"%d\r\nContent-Length: %d", b"%d, %d", b"+%d", b"0x%d", b"-%d", b"%d1", b" 0%d ", b"9%d")
INTERIM = (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", b"HTTP/1.1 100 \r\n\r\n",
           b"HTTP/1.1 103 X\r\nContent-Length: 3\r\n\r\n", b"HTTP/1.1 102 X\r\nTransfer-Encoding: chunked\r\n\r\n",
           b"HTTP/1.0 100 X\r\nConnection: close\r\n\r\n", b"\r\n")  # fmt: skip
SIZES = (
    b"%x\r\n",
    b"%x\r\n",
    b"%x\r\n",
    b"%X;a=b\r\n",
    b"0%x\r\n",
    b"%x \r\n",
    b"%x\n",
    b"-%x\r\n",
    b"%xg\r\n",
    b"ffffffffffffffff%x\r\n",
)
TAILS = (b"", b"", b"", b"\r\n", b"x", b"\x00", b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"HTTP/1.1 100 X\r\n\r\n",
         b"HTTP/1.1 500 No\r\nX-Second: 1\r\n\r\n")  # fmt: skip
TRAILERS = (
    b"",
    b"",
    b"X-T: 1\r\n",
    b"x-t:2\r\nX-T: 3\r\n",
    b"Content-Length: 5\r\n",
    b"no trailer\r\n",
    b"X-T: a\r\n b\r\n",
)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """More often right than wrong, so that what comes behind is reached."""
    is_odd = draw(st.sampled_from((False, False, True)))

    def one(forms: tuple[bytes, ...], right: int) -> bytes:
        return draw(st.sampled_from(forms if is_odd else forms[:right]))

    body = draw(st.binary(max_size=40))
    fields = [one(FIELDS, 9) for _ in range(draw(st.integers(0, 4)))]
    kind = draw(st.sampled_from(("length", "chunked", "close")))
    if kind == "length":
        form = one(LENGTHS, 2)
        fields.append(b"Content-Length: " + form % ((len(body),) * form.count(b"%d")))
    elif kind == "chunked":
        fields.append(one(ENCODINGS, 2))
        parts = [body[:7], body[7:]] if draw(st.booleans()) else [body]
        body = b"".join(one(SIZES, 5) % len(part) + part + b"\r\n" for part in parts if part)
        body += b"0\r\n" + one(TRAILERS, 4) + b"\r\n"
    head = b"\r\n".join([one(VERSIONS, 4) + b" " + one(STATUSES, 10), *draw(st.permutations(fields)), b"", b""])
    interim = b"".join(one(INTERIM, 3) for _ in range(draw(st.integers(0, 2))))
    return interim + head + body + draw(st.sampled_from(TAILS))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Cut short, one line end another, bytes changed, taken out, put in or doubled."""
    sent = draw(answers())
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 3)))):
        at = draw(st.integers(0, len(sent)))
        how = draw(st.sampled_from(("cut", "line end", "change", "out", "in", "double")))
        if how == "cut":
            sent = sent[:at]
        elif how == "line end":
            found = sent.find(b"\r\n", at)
            sent = (
                sent[:found] + draw(st.sampled_from((b"\n", b"\r", b"\r\r\n", b"\n\r"))) + sent[found + 2 :]
                if found >= 0
                else sent
            )
        elif how == "change":
            sent = sent[:at] + draw(st.binary(min_size=1, max_size=1)) + sent[at + 1 :]
        elif how == "out":
            sent = sent[:at] + sent[at + draw(st.integers(1, 9)) :]
        elif how == "in":
            sent = sent[:at] + draw(st.binary(max_size=4)) + sent[at:]
        else:
            sent = sent[:at] + sent[max(0, at - draw(st.integers(1, 30))) :]
    return sent


def split(sent: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, *(cut % (len(sent) + 1) for cut in cuts), len(sent)})
    return [sent[start:end] for start, end in pairwise(places) if end > start]


ASKED = st.builds(Asked, st.sampled_from(("POST", "POST", "GET", "HEAD")), st.booleans(), st.booleans())
CUTS = st.lists(st.integers(0, 400), max_size=12)
OK, HEAD = Asked(), Asked("HEAD")
UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
TWO = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 500 No\r\nContent-Length: 1\r\nX-B: 1\r\n\r\n!"


@settings(max_examples=600)
@example(sent=TWO, cuts=[], asked=OK, end="eof")
@example(sent=b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi!", cuts=[], asked=OK, end="eof")
@example(
    sent=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"hi") + b"!", cuts=[], asked=OK, end="eof"
)
@example(sent=b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nhi", cuts=[], asked=OK, end="lost")
@example(sent=b"HTTP/1.1 042 Odd\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", cuts=[], asked=OK, end="eof")
@example(
    sent=b"HTTP/1.1 042 Odd\r\nContent-Length: 1\r\n\r\n!HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    cuts=[],
    asked=OK,
    end="eof",
)
@example(sent=b"HTTP/1.1 200 O\x00\r\nContent-Length: 0\r\n\r\n", cuts=[], asked=OK, end="eof")
@example(
    sent=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n1\r\n!\r\n0\r\n\r\n" + TWO, cuts=[], asked=OK, end="eof"
)
@example(sent=UPGRADE + b"HTTP/1.1 200 OK\r\n\r\n", cuts=[len(UPGRADE) + 1, len(UPGRADE) + 2], asked=OK, end="lost")
@example(sent=b"HTTP/1.1 101 X\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", cuts=[], asked=OK, end="eof")
@example(sent=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", cuts=[], asked=HEAD, end="lost")
@example(sent=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n", cuts=[], asked=HEAD, end="lost")
@given(sent=mutated(), cuts=CUTS, asked=ASKED, end=st.sampled_from(("eof", "lost")))
def test_an_answer_is_whole_or_is_seen_not_to_be(sent: bytes, cuts: list[int], asked: Asked, end: str) -> None:
    """Nothing is raised, the end comes once, nothing is written after it, and no reader is deceived, of however many reads it is made."""
    found = [
        play(pieces, asked, end)
        for pieces in ([sent] if sent else [], split(sent, cuts), [bytes((byte,)) for byte in sent])
    ]
    for each in found:
        if each.upgraded is not None:
            assert each.read.head is None
        elif each.failed:
            assert each.read.end in ("none", "cut") or each.reset
            assert not each.reused
        else:
            assert each.read.head is not None
            assert each.read.end == "whole" or (each.read.end == "open" and asked.http10)
            assert not each.reset
        if each.reused:
            assert is_reusable(sent, asked.method)
    one = found[0]
    for other in found[1:]:
        assert (bool(one.failed), one.upgraded) == (bool(other.failed), other.upgraded)
        assert one.reused == other.reused or sent[-1:] in b"\r\n", (
            "a line end behind an answer, in the same read, is nothing"
        )
        if one.upgraded is not None:
            assert one.read.interim == other.read.interim
        elif not one.failed:
            assert said(one.read) == said(other.read)
        else:
            assert one.read.content.startswith(other.read.content) or other.read.content.startswith(one.read.content)


def is_reusable(sent: bytes, method: str) -> bool:
    """Whole, with nothing behind it but line ends, and nobody said that it was the last one."""
    sent = re.sub(rb"\r\n\r\n[\r\n]+HTTP/", rb"\r\n\r\nHTTP/", sent.lstrip(b"\r\n"))
    while True:
        try:
            theirs = read(sent, method, lenient=True)
        except ValueError:
            if sent[-1:] not in (b"\r", b"\n"):
                raise
            sent = sent[:-1]
        else:
            return theirs.head is not None and theirs.end == "whole" and b"close" not in theirs.head.raw.lower()


def said(found: Read) -> tuple[object, ...]:
    """Without the field that says how soon the head went out."""
    assert found.head is not None
    fields = [field for field in found.head.fields if field[0] != b"x-whole"]
    return [each.raw for each in found.interim], found.head.start, fields, found.content, found.trailers, found.end
