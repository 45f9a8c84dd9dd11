"""The bearer tokens of the admin listener: whose each is, what it may do, until when.

Kept as hashes. A given token is compared with every one of them, each time in constant time, so that how long an answer takes
tells nothing about how close a guess was, or which token it was close to.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from enum import Enum

from gateway.admin.routes import OPERATOR, Who
from gateway.value import value

LOOPBACK = Who("loopback", OPERATOR)
"""Whoever asks where there is no token at all, which is possible on loopback only."""


@value
class Token:
    """One of them. ``role`` is viewer or operator; ``expires`` in Unix seconds, 0 = never."""

    who: Who
    digest: bytes
    expires: int = 0


class No(Enum):
    """Why a token lets nobody in."""

    WRONG = "the bearer token is not one of admin.token and admin.tokens"
    EXPIRED = "the token has expired"


def token(name: str, role: str, secret: str, expires: int = 0) -> Token:
    """``secret`` is the token itself, as the config has it."""
    return Token(Who(name, role), _digest(secret.encode()), expires)


def has_operator(tokens: Sequence[Token]) -> bool:
    """Whether anybody could change anything."""
    return any(each.who.role == OPERATOR for each in tokens)


def whose(tokens: Sequence[Token], given: bytes, now: float) -> Who | No:
    """Whose token was given; ``now`` in Unix seconds."""
    digest, found = _digest(given), None
    for each in tokens:
        if hmac.compare_digest(each.digest, digest):
            found = each
    if found is None:
        return No.WRONG
    return No.EXPIRED if found.expires and found.expires <= now else found.who


def _digest(text: bytes) -> bytes:
    """All are of one length: a comparison of texts would tell theirs."""
    return hashlib.sha256(text).digest()
