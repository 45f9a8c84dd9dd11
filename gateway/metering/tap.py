"""The tap: sees each piece of an answer after the client got it, and learns from it what the dialect can read.

Sees references, owns nothing, never holds up a byte and never raises. Of a stream at most 8 KB wait to be digested, and
only what the dialect learned stays; of a JSON body up to 16 MiB are kept. Sound and pictures (``media``) are only counted. What cannot be decoded gives an empty Reading:
then the bill is an estimate.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from gateway.dialects import Dialect, Reading
from gateway.dialects.elements import ElementSplitter
from gateway.dialects.sse import MAX_EVENT_BYTES, EventSplitter, LineSplitter
from gateway.dialects.values import add_text
from gateway.metering.decoding import decoder_for, is_plain
from gateway.metering.frames import FrameReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DIGEST_BYTES = 8_192
SAMPLE_BYTES = 1_024
"""Of a stream whose deltas have no form yet: enough for the first two or three."""
MAX_JSON_BYTES = 16 << 20
IMAGE_BYTES = 64 << 20
"""An answer with images, or one event of it: ten of them in base64."""
MAX_INFLATED_BYTES = 64 << 20
"""What a compressed stream may come to: 8 KB of gzip can be 8 MB, and reading that is work."""


Splitter = EventSplitter | LineSplitter | ElementSplitter | FrameReader


class Tap:
    """One answer. Made when the head of the response is known: an event stream (or an ``array`` whose elements are read as they
    come) or not, and its ``content-encoding``.
    """

    __slots__ = ("_decoder", "_dialect", "_due", "_is_plain", "_limit", "_look", "_pending", "_plain", "_plain_bytes", "_splitter", "bytes", "reading")  # fmt: skip

    def __init__(
        self,
        dialect: Dialect,
        stream: bool,
        encoding: str,
        *,
        media: bool = False,
        array: bool = False,
        frames: FrameReader | None = None,
    ) -> None:
        self.bytes = 0
        """Bytes seen, as they came."""
        self.reading = Reading()
        """What has been learned so far; it lags by up to 8 KB."""
        self._dialect = dialect
        self._decoder = decoder_for(encoding) if (dialect.metered or dialect.follows) and not media else None
        self._is_plain = plain = is_plain(encoding)
        images = dialect.operation == "images"
        self._splitter: Splitter | None = frames
        if frames is not None:
            stream = True
        elif dialect.lines:
            self._splitter, stream = LineSplitter(), True
        elif array:
            self._splitter, stream = ElementSplitter(), True
        elif stream:
            self._splitter = EventSplitter(IMAGE_BYTES if images else MAX_EVENT_BYTES)
        self._limit = IMAGE_BYTES if images and not stream else _limit(stream, plain)
        self._pending: list[bytes] = []
        self._plain: list[bytes] = []
        self._plain_bytes = 0
        self._due = DIGEST_BYTES
        self._look: Callable[[Reading, int], int] | None = None

    def show(self, look: Callable[[Reading, int], int], first_bytes: int) -> None:
        """Show what was learned while it goes by: ``look`` gets the reading and the bytes seen, first after so many, and says
        after how many more it wants to look again (at the latest after 8 KB). It must not raise.
        """
        self._look = look
        self._due = self.bytes + min(first_bytes, DIGEST_BYTES)

    def feed(self, chunk: bytes) -> None:
        """Note one piece. 0.15 us, but for one in 8 KB, which digests what came since."""
        self.bytes += len(chunk)
        if self._decoder is None:
            return
        self._pending.append(chunk)
        if self.bytes >= self._due:
            self._digest()

    def catch_up(self) -> Splitter | None:
        """Digest what is pending. What takes the stream apart then stands where the stream stands; None if it is not read."""
        self._digest()
        return self._splitter if self._decoder is not None else None

    def finish(self) -> Reading:
        """Everything that could be learned. Asking again gives the same."""
        self._digest()
        if self._decoder is not None:
            try:
                self._read_rest()
            except Exception:
                self._give_up()
        self._decoder = None
        return self.reading

    def _digest(self) -> None:
        """Decode and read what is pending. Whatever goes wrong here is the answer's fault and ends the reading only."""
        pending, self._pending = self._pending, []
        if self._decoder is None or not pending:
            return
        self._due = self.bytes + DIGEST_BYTES
        try:
            piece = pending[0] if len(pending) == 1 else b"".join(pending)
            if self._is_plain:
                self._take(piece)
            else:
                for plain in self._decoder.decode(piece):
                    self._take(plain)
        except Exception:
            self._give_up()
        if self._look is not None:
            self._due = self.bytes + min(self._look(self.reading, self.bytes), DIGEST_BYTES)

    def _take(self, plain: bytes) -> None:
        self._plain_bytes += len(plain)
        if self._plain_bytes > self._limit:
            raise OverflowError("more than is worth reading")
        splitter = self._splitter
        if splitter is None:
            self._plain.append(plain)
            return
        if type(splitter) is EventSplitter:
            plain = self._read_run(splitter, plain)
        self._read_events(splitter.feed(plain))

    def _read_run(self, splitter: EventSplitter, plain: bytes) -> bytes:
        """Read one delta after another, as long as they have the form that the first ones tell; what is left is to be parsed."""
        reading = self.reading
        if reading.form is None and len(plain) > SAMPLE_BYTES:
            self._read_events(splitter.feed(plain[:SAMPLE_BYTES]))
            plain = plain[SAMPLE_BYTES:]
        text = splitter.run(plain, reading.form) if reading.form is not None else None
        if text is None:
            return plain
        reading.finished = False
        add_text(reading, text)
        return b""

    def _read_events(self, events: Iterable[bytes]) -> None:
        """Read, then join the texts: a list of a hundred thousand small strings costs fifty bytes for each."""
        reading = self.reading
        before = len(reading.text)
        for event in events:
            self._dialect.read(event, reading)
        if len(reading.text) > before + 1:
            reading.text[before:] = ["".join(reading.text[before:])]

    def _read_rest(self) -> None:
        if self._splitter is not None:
            self._read_events(self._splitter.finish())
        elif self._plain:
            self._dialect.read(b"".join(self._plain), self.reading)
        self._plain = []

    def _give_up(self) -> None:
        self.reading = Reading()
        self._decoder = None
        self._plain = []


def _limit(stream: bool, plain: bool) -> int:
    """How many plain bytes are read at most."""
    if not stream:
        return MAX_JSON_BYTES
    return sys.maxsize if plain else MAX_INFLATED_BYTES
