"""The kinds of values in the config, and the reader of each: the text of a value in, the value or ``Wrong`` out.

Knows no key and no YAML. What names a thing outside the file (a time zone, another file) has its reader in ``loading``.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from gateway.admission.identity import MAX_CHARS, clean
from gateway.admission.scopes import parse_scope
from gateway.value import value
from gateway.wire import proxies
from pricing.money import format_usd, parse_usd

LARGEST_LIMIT_NANOUSD = 9_000_000 * 10**9
"""Balances stay below 2^53 nano-dollars, so that every store counts them exactly."""
YEAR_S = 366 * 86_400
SECONDS = {"d": Decimal(86_400), "h": Decimal(3600), "m": Decimal(60), "s": Decimal(1), "ms": Decimal("0.001")}
STORE_SCHEMES = (
    "redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster", "unix"
)  # fmt: skip
TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?(ms|s|m|h|d)?")
_HASH = re.compile(r"(?:sha256:)?([0-9A-Fa-f]{64})")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
EARLIEST = 946_684_800
"""2000-01-01: a moment before it is a slip."""
LATEST = 253_370_764_800
"""9999-01-01: what is later may be in no year that can be written, in one time zone or another."""
_TAG = re.compile(r"tags\.[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_ADDRESS = re.compile(r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.%]+\]):[0-9]{1,5}")
_MONEY = re.compile(r"(-?[0-9]{1,12}(?:\.[0-9]{1,9})?)0*")


class Secret:
    """A text that shows itself only to who asks for it by ``reveal``; ``shown`` is what others see, where it is not all secret."""

    __slots__ = ("_shown", "_text")

    def __init__(self, text: str = "", shown: str = "***") -> None:
        self._text = text
        self._shown = shown

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return self._shown if self._text else ""


@value
class Kind:
    """What a value may be. ``name`` picks its reader; the rest are its limits.

    ``least`` and ``most`` bound the value itself (whole), seconds (duration), nano-dollars (money), characters (texts) or
    entries (list).
    """

    name: str
    choices: tuple[str, ...] = ()
    least: int = 0
    most: int = 2**53
    block: type | None = None
    of: Kind | None = None


TEXT = Kind("text", most=4096)
WORD = Kind("text", least=1, most=4096)
FLAG = Kind("flag")
SECRET = Kind("secret", most=4096)
OWN_SECRET = Kind("secret", least=1, most=4096)
URL = Kind("url", least=1, most=2048)
PROXY_URL = Kind("proxy", most=2048)
STORE_URL = Kind("store", least=1, most=4096)
FILE = Kind("file", most=4096)
ENDPOINT = Kind("endpoint", most=2048)
"""An address of something that is sent to: a URL or HOST:PORT, or empty."""
PATH = Kind("path", most=2048)
SCOPE = Kind("scope", least=1, most=160)
CALLS = Kind("calls", least=1, most=300)
NAME = Kind("name", most=MAX_CHARS)
"""A name of a caller's, as a header field may have it."""
OWN_NAME = Kind("name", least=1, most=MAX_CHARS)
NAMED_THING = Kind("text", least=1, most=200)  # what an operator calls something
HASH = Kind("hash")
"""SHA-256 of a gateway key."""
MOMENT = Kind("moment")  # a day (UTC) or a time, in Unix seconds; 0 = never
NETWORK = Kind("network", most=64)
"""Addresses as CIDR has them, or one."""
WORDS = Kind("words", of=WORD)
"""A mapping of texts to texts."""
HEADERS = Kind("words", of=SECRET)
"""A mapping of names of header fields to values that may be secrets."""
RATIO = Kind("ratio")
"""From 0 to 1."""
PATTERN = Kind("pattern", least=1, most=500)
"""A regular expression."""
ADDRESS = Kind("address", most=300)
"""HOST:PORT, or nothing."""
LABEL = Kind("label", choices=("team", "agent", "call_type", "user", "key_name"))
"""One of these, or ``tags.NAME``."""
PROCESSES = Kind("processes", choices=("auto",), least=1, most=64)
"""A number, or ``auto`` (0): one for each processor that may be used."""
ZONE = Kind("zone", least=1, most=64)
MONEY = Kind("money", least=1, most=LARGEST_LIMIT_NANOUSD)
MONEY_OR_NONE = Kind("money", least=0, most=LARGEST_LIMIT_NANOUSD)


def whole(least: int, most: int) -> Kind:
    """A whole number within bounds."""
    return Kind("whole", least=least, most=most)


def duration(least_s: int = 0, most_s: int = YEAR_S) -> Kind:
    """A time within bounds, in seconds."""
    return Kind("duration", least=least_s, most=most_s)


def one_of(*choices: str) -> Kind:
    """One of some words."""
    return Kind("choice", choices=choices)


def block(shape: type) -> Kind:
    """A nested block."""
    return Kind("block", block=shape)


def list_of(kind: Kind, least: int = 0, most: int = 10_000) -> Kind:
    """A list with so many entries."""
    return Kind("list", of=kind, least=least, most=most)


# -- readers: the text of a value -> the value, or Wrong ------------------------------------------------------------------


class Wrong(Exception):  # noqa: N818 - the word of the house for it
    """One value that cannot be taken, in words without the value. Who walks the file knows where it stands."""


def near(word: str, known: Iterable[str]) -> str:
    """The suggestion at the end of a complaint; "" when nothing is like it."""
    found = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""


def _within(kind: Kind, value: Decimal, unit: str = "") -> Decimal:
    if not kind.least <= value <= kind.most:
        raise Wrong(f"must be from {kind.least} to {kind.most}{unit}")
    return value


def _read_whole(kind: Kind, text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,15}", text):
        raise Wrong("must be a whole number")
    return int(_within(kind, Decimal(text)))


def _read_processes(kind: Kind, text: str) -> int:
    return 0 if text in kind.choices else _read_whole(kind, text)


def _read_flag(kind: Kind, text: str) -> bool:
    if text.lower() not in TRUTH:
        raise Wrong("must be true or false")
    return TRUTH[text.lower()]


def _read_choice(kind: Kind, text: str) -> str:
    if text not in kind.choices:
        raise Wrong(f"must be one of {', '.join(kind.choices)}{near(text, kind.choices)}")
    return text


def _read_duration(kind: Kind, text: str) -> float:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise Wrong("must be a duration such as 500ms, 30s, 10m, 24h or 30d")
    return float(_within(kind, Decimal(match[1]) * SECONDS[match[2] or "s"], " seconds"))


def _read_ratio(kind: Kind, text: str) -> float:
    if not re.fullmatch(r"[01](?:\.[0-9]{1,9})?|\.[0-9]{1,9}", text) or float(text) > 1:
        raise Wrong("must be a number from 0 to 1, such as 0.1")
    return float(text)


def _read_pattern(kind: Kind, text: str) -> str:
    try:
        re.compile(read_text(kind, text))
    except re.error:
        raise Wrong("is no regular expression") from None
    return text


def _read_label(kind: Kind, text: str) -> str:
    if text not in kind.choices and not _TAG.fullmatch(text):
        raise Wrong(f"must be one of {', '.join(kind.choices)} or tags.NAME{near(text, kind.choices)}")
    return text


def _duration_text(seconds: float) -> str:
    """The way back, in the largest unit that leaves no fraction: 600.0 -> ``10m``."""
    exact = Decimal(repr(seconds))
    for unit, length in SECONDS.items():
        if exact and exact % length == 0:
            return f"{int(exact / length)}{unit}"
    return f"{exact:f}s" if exact else "0s"


def _read_money(kind: Kind, text: str) -> int:
    match = _MONEY.fullmatch(text)
    if match is None:
        raise Wrong("must be an amount of dollars such as 10 or 2.50, with at most nine places")
    amount = parse_usd(match[1])
    if not kind.least <= amount <= kind.most:
        least = "above 0" if kind.least else "from 0"
        raise Wrong(f"must be {least} and at most {kind.most // 10**9} dollars")
    return amount


def read_text(kind: Kind, text: str) -> str:
    """A line of text."""
    if not text.isprintable():
        raise Wrong("holds characters that cannot be printed")
    if len(text) < kind.least:
        raise Wrong("must not be empty")
    if len(text) > kind.most:
        raise Wrong(f"must have at most {kind.most} characters")
    return text


def read_secret(kind: Kind, text: str) -> Secret:
    """A secret: it travels in a header field, so that it is ASCII."""
    if not text.isascii():
        raise Wrong("must be printable ASCII")
    return Secret(read_text(kind, text))


def _read_path(kind: Kind, text: str) -> str:
    if text and text != "/v1" and not text.startswith("/v1/"):
        raise Wrong("must begin with /v1: what is below /NAME goes to the upstream of that name")
    return read_text(kind, text)


def _read_scope(kind: Kind, text: str) -> str:
    try:
        parse_scope(read_text(kind, text))
    except ValueError as error:
        raise Wrong(str(error)) from None
    return text


def _read_calls(kind: Kind, text: str) -> str:
    of, _, name = read_text(kind, text).partition(":")
    if of not in ("upstream", "team", "model") or not name or name != name.strip():
        raise Wrong("must be upstream:NAME, team:NAME or model:PATTERN")
    return text


def _read_url(kind: Kind, text: str) -> str:
    text = read_text(kind, text)
    try:
        parts = urlsplit(text)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound or not text.isascii() or " " in text:
        raise Wrong("must be http://... or https://...")
    if "?" in text or "#" in text or "@" in parts.netloc:
        raise Wrong("takes no query, fragment or credentials")
    return text


def split_address(text: str) -> tuple[str, int]:
    """``HOST:PORT`` -> its parts; an IPv6 address stands in brackets."""
    host, _, port = text.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _read_address(kind: Kind, text: str) -> str:
    if not text:
        return text
    if not _ADDRESS.fullmatch(read_text(kind, text)) or not 0 < split_address(text)[1] < 65536:
        raise Wrong("must be HOST:PORT, with an IPv6 address in brackets")
    return text


def _read_endpoint(kind: Kind, text: str) -> str:
    if any(sign in read_text(kind, text) for sign in "@?#") or " " in text:
        raise Wrong("must be an address without query, fragment or credentials")
    return text


def _read_store(kind: Kind, text: str) -> str:
    scheme, _, rest = read_text(kind, text).partition("://")
    if scheme == "sqlite" and rest.startswith("/") and rest != "/":
        return text
    if scheme not in STORE_SCHEMES or not rest.strip("/"):
        raise Wrong("must be sqlite:///FILE or redis://HOST:PORT (also rediss, unix, redis+sentinel, redis+cluster)")
    if "@" in rest or re.search(r"[?&](username|password)=", rest):
        raise Wrong("takes no credentials: they belong into store.username and store.password")
    return text


def _read_proxy(kind: Kind, text: str) -> Secret:
    try:
        if text not in ("", "none"):
            proxies.parse(read_text(kind, text))
    except ValueError as error:
        raise Wrong(str(error)) from None
    return Secret(text, proxies.masked(text))


def _read_name(kind: Kind, text: str) -> str:
    try:
        name = clean(read_text(kind, text).encode())
    except ValueError as error:
        raise Wrong(str(error)) from None
    if name != text:
        raise Wrong("begins or ends with white space")
    return name


def _read_hash(kind: Kind, text: str) -> str:
    if text.startswith("tg-"):
        raise Wrong(
            "is a key and not its hash: make another one with tollgate keys create, which prints what belongs here"
        )
    match = _HASH.fullmatch(text)
    if match is None:
        raise Wrong("must be sha256: and 64 hex digits, as tollgate keys create prints it")
    return f"sha256:{match[1].lower()}"


def _read_moment(kind: Kind, text: str) -> int:
    if not text:
        return 0
    try:
        moment = datetime.fromisoformat(f"{text}T00:00:00Z" if _DAY.fullmatch(text) else text)
    except ValueError:
        raise Wrong("must be a day such as 2027-01-01 (UTC) or a time such as 2027-01-01T12:00:00Z") from None
    if moment.tzinfo is None:
        raise Wrong("needs a time zone: 2027-01-01T12:00:00Z, or +02:00 in place of the Z")
    if moment.timestamp() < EARLIEST:
        raise Wrong("lies before the year 2000")
    if moment.timestamp() >= LATEST:
        raise Wrong("lies after the year 9998")
    return int(moment.timestamp())


def _moment_text(unix_seconds: int) -> str:
    """The way back; a midnight in UTC is its day."""
    if not unix_seconds:
        return ""
    text = f"{datetime.fromtimestamp(unix_seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return text.removesuffix("T00:00:00Z")


def _read_network(kind: Kind, text: str) -> str:
    try:
        return str(ipaddress.ip_network(read_text(kind, text)))
    except ValueError as error:
        wide = "has bits set behind the prefix: 10.1.0.0/16, not 10.1.2.3/16"
        raise Wrong(wide if "host bits" in str(error) else "must be like 10.0.0.0/8 or 2001:db8::/32") from None


SECRETS = frozenset(("secret", "proxy"))
"""Kinds whose values hide, and may stand in a file of their own (NAME_file)."""
READERS: dict[str, Callable[[Kind, str], Any]] = {
    "whole": _read_whole,
    "processes": _read_processes,
    "flag": _read_flag,
    "choice": _read_choice,
    "duration": _read_duration,
    "money": _read_money,
    "text": read_text,
    "secret": read_secret,
    "path": _read_path,
    "scope": _read_scope,
    "calls": _read_calls,
    "url": _read_url,
    "endpoint": _read_endpoint,
    "store": _read_store,
    "proxy": _read_proxy,
    "ratio": _read_ratio,
    "pattern": _read_pattern,
    "label": _read_label,
    "address": _read_address,
    "name": _read_name,
    "hash": _read_hash,
    "moment": _read_moment,
    "network": _read_network,
}
"""By the name of the kind; what names a thing outside the file (zone, file) has its reader in ``loading``."""
WRITERS: dict[str, Callable[[Any], str]] = {
    "money": format_usd,
    "duration": _duration_text,
    "moment": _moment_text,
    "processes": lambda count: str(count or "auto"),
}
"""The way back, where a value is not its own text."""
