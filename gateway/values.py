"""One YAML scalar to a value, by its kind. Raises Wrong with words that never repeat the value: it may be a secret."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from typing import Any

from gateway.settings import Kind, Secret
from pricing.money import parse_usd

UNITS = {"ms": "0.001", "s": "1", "m": "60", "h": "3600", "d": "86400"}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class Wrong(Exception):  # noqa: N818 - the sentence is what matters
    """One value that cannot be taken. Who walks the tree knows where it stands."""


def near(word: str, known: Iterable[str]) -> str:
    """``; did you mean X?`` for a word that is nearly a known one."""
    found = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""


def _read_whole(kind: Kind, text: str) -> int:
    if not re.fullmatch(r"-?\d{1,18}", text):
        raise Wrong("must be a whole number")
    if not kind.least <= int(text) <= kind.most:
        raise Wrong(f"must be from {kind.least} to {kind.most}")
    return int(text)


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
    if match is None or len(text) > 20:
        raise Wrong("must be a duration such as 500ms, 30s, 10m, 24h or 30d")
    return float(Decimal(match[1]) * Decimal(UNITS[match[2] or "s"]))


def _read_money(kind: Kind, text: str) -> int:
    try:
        amount = parse_usd(text) if len(text) <= 40 else kind.most + 1
    except (ValueError, InvalidOperation):
        raise Wrong("must be an amount of dollars such as 10 or 2.50, with at most nine places") from None
    if not kind.least <= amount <= kind.most:
        raise Wrong("must be above 0 and at most 9000000 dollars")
    return amount


def _read_text(kind: Kind, text: str) -> str:
    if not text.isprintable():
        raise Wrong("holds characters that cannot be printed")
    return text


READERS: dict[str, Callable[[Kind, str], Any]] = {
    "whole": _read_whole,
    "flag": _read_flag,
    "choice": _read_choice,
    "duration": _read_duration,
    "money": _read_money,
    "text": _read_text,
    "secret": lambda kind, text: Secret(text),
}
