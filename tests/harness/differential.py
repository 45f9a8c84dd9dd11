"""The comparison: one request sent directly and through the gateway, and everything that differs between the two.

Owns the list of what a gateway may change (the transparency law), written a second time and independently of the
gateway's own lists. Law: a difference that is not on the list is reported, and silence means that there is none.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from tests.harness.messages import Head
from tests.harness.raw_client import Answer, ask
from tests.harness.scripted import ScriptedUpstream, Seen

Fields = list[tuple[bytes, bytes]]

HOP_BY_HOP = {b"connection", b"proxy-connection", b"keep-alive", b"te", b"transfer-encoding", b"upgrade"}
"""RFC 9110 7.6.1."""
FOR_THE_GATEWAY = {b"expect", b"proxy-authorization"}
"""RFC 9110 10.1.1 and 11.7.2: addressed to the next hop, which is the gateway."""
ADDED_TO_ANSWERS = {b"x-correlation-id"}
OURS = b"x-tollgate-"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request as the upstream saw it, and the answer as the client saw it."""

    seen: Seen
    answer: Answer


async def both_ways(
    upstream: ScriptedUpstream,
    front_port: int,
    request: bytes,
    *,
    prefix: bytes = b"/up",
    tls: ssl.SSLContext | None = None,
) -> tuple[Exchange, Exchange]:
    """Send ``request`` to the upstream, then the same with ``prefix`` before its target to the gateway."""
    before = len(upstream.seen)
    direct = await ask(upstream.port, request, tls=tls)
    through = await ask(front_port, request.replace(b" ", b" " + prefix, 1))
    assert len(upstream.seen) == before + 2, f"the upstream saw {len(upstream.seen) - before} requests instead of two"
    return Exchange(upstream.seen[before], direct), Exchange(upstream.seen[before + 1], through)


async def changes(
    upstream: ScriptedUpstream,
    front_port: int,
    request: bytes,
    *,
    prefix: bytes = b"/up",
    tls: ssl.SSLContext | None = None,
) -> list[str]:
    """Everything that the gateway changed and may not change; empty when it is transparent."""
    direct, through = await both_ways(upstream, front_port, request, prefix=prefix, tls=tls)
    host = b"127.0.0.1:%d" % upstream.port
    return [*request_changes(direct.seen, through.seen, host=host), *answer_changes(direct.answer, through.answer)]


def request_changes(direct: Seen, through: Seen, *, host: bytes) -> Iterator[str]:
    """What the upstream saw differently."""
    yield from _differ("method", direct.method, through.method)
    yield from _differ("target", direct.target, through.target)
    yield from _differ("version", b"HTTP/1.1", through.head.start.split(b" ")[-1])
    sent, arrived = _end_to_end(direct.head, FOR_THE_GATEWAY), _end_to_end(through.head, FOR_THE_GATEWAY)
    sent = [
        (name, host if name.lower() == b"host" else value) for name, value in sent if not name.lower().startswith(OURS)
    ]
    via = [value for name, value in arrived if name.lower() == b"via"]
    yield from _differ("Via added", True, bool(via) and via[-1].startswith(b"1.1 "))
    if via and arrived[-1][0].lower() == b"via":
        arrived = arrived[:-1]
    if direct.head.is_chunked and not through.head.is_chunked:  # framing is of one hop (RFC 9110 7.7)
        yield from _differ("length", [b"%d" % len(direct.body.content)], through.head.values(b"content-length"))
        arrived = [field for field in arrived if field[0].lower() != b"content-length"]
    yield from _fields_differ("request field", sent, arrived)
    yield from _differ("request body", direct.body.content, through.body.content)


def answer_changes(direct: Answer, through: Answer) -> Iterator[str]:
    """What the client saw differently."""
    yield from _differ("interim heads", [each.raw for each in direct.interim], [each.raw for each in through.interim])
    yield from _differ("status", direct.status, through.status)
    yield from _differ("reason", direct.head.reason, through.head.reason)
    sent = _end_to_end(direct.head)
    arrived = [
        field
        for field in _end_to_end(through.head)
        if field in sent or not (field[0].startswith(OURS) or field[0] in ADDED_TO_ANSWERS)
    ]
    yield from _fields_differ("response field", sent, arrived)
    yield from _differ("response body", direct.body.content, through.body.content)
    yield from _differ("trailers", direct.body.trailers, through.body.trailers)
    yield from _differ("whole", direct.body.whole, through.body.whole)


def _end_to_end(head: Head, more: set[bytes] = frozenset()) -> Fields:  # type: ignore[assignment]
    named = {part.strip().lower() for value in head.values(b"connection") for part in value.split(b",")}
    removed = HOP_BY_HOP | more | named
    return [(name, value) for name, value in head.fields if name.lower() not in removed]


def _fields_differ(what: str, sent: Fields, arrived: Fields) -> Iterator[str]:
    for missing in [field for field in sent if field not in arrived]:
        yield f"{what} lost: {missing!r}"
    for added in [field for field in arrived if field not in sent]:
        yield f"{what} added: {added!r}"
    if sorted(sent) == sorted(arrived):
        yield from _differ(f"{what} order", sent, arrived)
    elif set(sent) == set(arrived):
        yield f"{what} duplicates: {len(sent)} became {len(arrived)}"


def _differ(what: str, sent: object, arrived: object) -> Iterator[str]:
    if sent != arrived:
        yield f"{what}: {_short(sent)} became {_short(arrived)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 400 else f"{text[:200]} ... {text[-100:]} ({len(text)} characters)"
