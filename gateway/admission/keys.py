"""Gateway keys: who may ask at all, and for what. Header fields become a Key, or a Refusal.

A key is ``tg-`` and at least 32 random letters and digits; the config, or the store, holds its SHA-256. A fast hash is enough, because there
is nothing to guess: 190 bits of chance (docs/decisions/0008). Laws: what was sent is compared as it was sent, never quoted
and never kept; two different credentials are refused, as one of them might be somebody else's; a key allows only what the
gateway can see that it allows. Everything but the hash of what was sent is worked out when the config is loaded: 1 us a call.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import field
from datetime import UTC, datetime
from fnmatch import translate
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING

from gateway.addresses import Network, read_address
from gateway.call import Caller
from gateway.errors import Kind, Refusal
from gateway.value import value

if TYPE_CHECKING:
    from gateway.call import Ask, Fields

PREFIX = "tg-"
FORM = re.compile(rb"tg-[0-9A-Za-z]{32,128}")
FIELDS = frozenset((b"authorization", b"x-api-key", b"x-goog-api-key", b"api-key"))
"""Where callers put a credential, in lower case."""

_MISSING = Refusal(
    Kind.AUTHENTICATION,
    "This gateway asks for a gateway key, and the request has none. Send it where the API key belongs (Authorization: Bearer,"
    " x-api-key, x-goog-api-key or api-key); the operator of this gateway makes one with: tollgate keys create.",
)
_NO_KEY = Refusal(
    Kind.AUTHENTICATION,
    "This gateway asks for a gateway key, and the credential of this request is none: gateway keys begin with tg-. The"
    " operator of this gateway makes one with: tollgate keys create.",
)
_UNKNOWN = Refusal(
    Kind.AUTHENTICATION,
    "This gateway does not know the gateway key of this request: it is misspelt, revoked or of another gateway. Ask the"
    " operator of this gateway for one.",
)
_NOT_READ = Refusal(
    Kind.STORE_UNAVAILABLE,
    "This gateway cannot tell yet whether it knows the gateway key of this request, because it has not reached its store. Try again"
    " in a moment.",
)
_SEVERAL = Refusal(
    Kind.AUTHENTICATION,
    "The request has several different credentials; send the gateway key alone (Authorization: Bearer, x-api-key,"
    " x-goog-api-key or api-key).",
)


def hash_of(key: str) -> str:
    """What the config holds of a key: ``sha256:`` and 64 hex digits."""
    return f"sha256:{sha256(key.encode()).hexdigest()}"


@value
class Key:
    """One key. Empty = everything (models, upstreams, networks), the caller's to say (team, user)."""

    name: str
    digest: bytes = field(repr=False)
    team: str = ""
    user: str = ""
    models: re.Pattern[str] | None = None
    upstreams: frozenset[str] = frozenset()
    expires_at: int = 0
    """Unix seconds from which on it is refused; 0 = never."""
    revoked_at: int = 0
    """Unix seconds when it was revoked; 0 = it was not."""
    networks: tuple[Network, ...] = ()

    def caller(self, new_id: str) -> Caller:
        """Who asks with it, where nothing else of the request counts."""
        return Caller(team=self.team, user=self.user, correlation_id=new_id, key_name=self.name)

    def refuse(self, at: float, address: str) -> Refusal | None:
        """Why it may not be used ``at`` a time (Unix seconds) from an address ("" = nobody can tell which)."""
        if self.revoked_at:
            return self._over("was revoked", self.revoked_at)
        if self.expires_at and at >= self.expires_at:
            return self._over("expired", self.expires_at)
        if self.networks:
            found = read_address(address)
            if found is None or not any(found in network for network in self.networks):
                return Refusal(
                    Kind.PERMISSION,
                    f"The gateway key '{self.name}' may not be used from this address. The operator of this gateway sets where"
                    " it may (cidr).",
                )
        return None

    def _over(self, how: str, since: int) -> Refusal:
        return Refusal(
            Kind.AUTHENTICATION,
            f"The gateway key '{self.name}' {how} at {datetime.fromtimestamp(since, UTC):%Y-%m-%dT%H:%M:%SZ}."
            " Ask the operator of this gateway for a new one.",
        )

    def forbid(self, ask: Ask, upstream: str, *, may_spend: bool) -> Refusal | None:
        """Why what is asked may not be had with it. Where the models are limited, a call that may cost something and names none
        that can be read is refused too: it could be any.
        """
        if self.upstreams and upstream not in self.upstreams:
            return Refusal(
                Kind.PERMISSION,
                f"The gateway key '{self.name}' may not use the upstream '{upstream}'. The operator of this gateway sets which"
                " it may.",
            )
        if self.models is None or not may_spend or self.models.match(ask.model):
            return None
        if ask.model:
            return Refusal(
                Kind.PERMISSION,
                f"The gateway key '{self.name}' may not use the model {ask.model[:80]!r}. The operator of this gateway sets"
                " which it may.",
            )
        if ask.fault:
            return Refusal(
                Kind.MALFORMED_BODY,
                f"The gateway key '{self.name}' may use some models only, so the gateway has to read the body, and cannot:"
                f" {ask.fault}.",
            )
        return Refusal(
            Kind.PERMISSION,
            f"The gateway key '{self.name}' may use some models only, and this request names none that the gateway can read.",
        )


class Keys:
    """All keys there are, found by the hash of what was sent. ``complete`` is false while the store has not been asked for its own."""

    __slots__ = ("_keys", "_unknown")

    def __init__(self, keys: Iterable[Key], *, complete: bool = True) -> None:
        self._keys: dict[bytes, Key] = {}
        for key in keys:
            known = self._keys.get(key.digest)
            if known is None or not known.revoked_at:  # whichever of two says revoked is right
                self._keys[key.digest] = key
        self._unknown = _UNKNOWN if complete else _NOT_READ

    def __repr__(self) -> str:
        return f"Keys({len(self._keys)})"

    def find(self, fields: Fields, of_query: Iterable[str] = ()) -> Key | Refusal:
        """The key that a request brings. ``of_query``: what its query has of credentials."""
        given = b""
        for name in FIELDS:
            for content in fields.get(name, ()):
                text = _bearer(content) if name == b"authorization" else content.strip(b" \t")
                if given and text and text != given:
                    return _SEVERAL
                given = text or given
        for each in of_query:
            text = each.encode("utf-8", "surrogateescape")
            if given and text and text != given:
                return _SEVERAL
            given = text or given
        if FORM.fullmatch(given) is None:
            return _NO_KEY if given else _MISSING
        digest = sha256(given).digest()
        key = self._keys.get(digest)
        if key is None or not compare_digest(key.digest, digest):
            return self._unknown
        return key


def patterns(models: Iterable[str]) -> re.Pattern[str] | None:
    """Shell-style patterns as one expression, for ``match``; None where there are none. Upper and lower case differ."""
    texts = [translate(each) for each in models]
    return re.compile("|".join(texts)) if texts else None


def _bearer(value: bytes) -> bytes:
    """RFC 6750 2.1; the scheme's case does not matter (RFC 9110 11.1). Another scheme's value is what it is: no key."""
    if value[:7].lower() == b"bearer ":
        return value[7:].strip(b" \t")
    return value.strip(b" \t")
