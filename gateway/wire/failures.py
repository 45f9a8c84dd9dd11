"""What the wire says when an exchange does not come to its end: one sentence for each way."""

from __future__ import annotations

from gateway.errors import Failure, Kind, Whose


def unreadable() -> Failure:
    """No HTTP, or HTTP that two readers could read in two ways."""
    return Failure(
        Kind.UPSTREAM_UNREADABLE, Whose.UPSTREAM, "The upstream sent something that is no valid HTTP response."
    )


def incomplete() -> Failure:
    """The connection broke."""
    return Failure(Kind.UPSTREAM_RESET, Whose.UPSTREAM, "The upstream closed the connection without a complete answer.")


def closed_early() -> Failure:
    """The upstream ended its side."""
    return Failure(
        Kind.UPSTREAM_RESET, Whose.UPSTREAM, "The upstream closed the connection before its answer was complete."
    )


def late() -> Failure:
    """No head within the limit."""
    return Failure(Kind.UPSTREAM_TIMEOUT, Whose.UPSTREAM, "The upstream did not begin to answer in time.")


def silent() -> Failure:
    """No byte of the body within the limit."""
    return Failure(Kind.UPSTREAM_TIMEOUT, Whose.UPSTREAM, "The upstream fell silent in the middle of its answer.")


def proxy_refused() -> Failure:
    """A proxy that reads each request answers 407 in the upstream's place (RFC 9110 15.5.8)."""
    return Failure(
        Kind.UPSTREAM_UNREACHABLE,
        Whose.UPSTREAM,
        "The proxy on the way to the upstream refused the request (HTTP 407).",
    )


def client_left() -> Failure:
    """The client did not wait."""
    return Failure(Kind.UPSTREAM_RESET, Whose.FRONT, "The client left before the answer was complete.")
