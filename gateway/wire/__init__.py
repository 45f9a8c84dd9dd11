"""The wire: bytes. This room knows HTTP and no token, no price, no provider.

``front`` accepts requests and hands each one, as an ``Arrival``, to the callable it was given. ``routes`` says which
upstream a path means, ``upstreams`` keeps connections, ``attempts`` sends a request and ``relay`` copies one answer,
chunk by chunk, to the client first and to a watcher afterwards. ``headers`` holds the lists of what is not passed on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gateway.call import Fields, Headers


class Watcher(Protocol):
    """Sees an answer go by. May add header fields of the gateway's own; cannot change, delay or fail anything."""

    def head(self, status: int, fields: Fields) -> bool:
        """The final head came. True: keep the answer back until it is whole, so that ``extra`` can speak of all of it."""

    def upgraded(self, headers: Headers) -> None:
        """A 101 came instead: ``chunk`` gets what the upstream sends from there on."""

    def rewriter(self) -> Rewriter | None:
        """Asked after ``head``: what stands between the answer and the client, where its bytes may be touched."""

    def chunk(self, piece: bytes) -> None:
        """A piece of the body, after it was sent on."""

    def extra(self, *, whole: bool) -> Headers:
        """The gateway's own fields, asked for when the head goes out. ``whole``: the body was seen to its end."""


class Rewriter(Protocol):
    """Changes a body of unknown length on its way to the client. The watcher sees it as it came."""

    def feed(self, piece: bytes) -> bytes:
        """What is to be written for this piece, now."""

    def end(self) -> bytes:
        """What is left to be written."""


class LastWords(Protocol):
    """What is said at the end of a body that the gateway ends, where its form allows for it."""

    def after(self, piece: bytes) -> bytes | None:
        """What is to be written instead of the next piece, and then nothing more; None if the body cannot end in it. Asked
        first with an empty one.
        """


class Line(Protocol):
    """What a relay needs of its upstream connection. ``by_proxy``: a proxy reads what is asked, and may answer itself."""

    by_proxy: bool

    def pause(self) -> None:
        """Stop reading."""

    def resume(self) -> None:
        """Read on."""

    def done(self, *, reusable: bool) -> None:
        """The exchange is over: keep the connection for another one, or drop it at once."""
