"""A block of the config from JSON: what an operator sends at run time is read by the very kinds that read the file.

Values are looked at one by one, so that every fault is told with its field; no fault repeats a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import Field, fields
from decimal import Decimal
from typing import Any, TypeVar

from gateway.canonical import yaml_name
from gateway.changes import Denied
from gateway.kinds import READERS, Kind, Wrong, near
from gateway.loading import OUTSIDE

T = TypeVar("T")
MAX_PLACES = 30
"""1e-99999999 is short to send and long to write out."""


def block(shape: type[T], given: Mapping[str, Any]) -> T:
    """The block; what is null or left out has its default. Denied (unfit) with everything that is wrong."""
    problems: list[tuple[str, str]] = []
    values: dict[str, Any] = {}
    known = {yaml_name(each): each for each in fields(shape)}  # type: ignore[arg-type]  # a block is a dataclass
    for name in given:
        if name not in known:
            problems.append((name, f"there is no such field{near(name, known)}"))
    for name, each in known.items():
        if given.get(name) is None:
            if each.metadata["required"]:
                problems.append((name, "is missing"))
            continue
        try:
            values[each.name] = value(each.metadata["kind"], given[name])
        except Denied as denied:
            problems += [(f"{name}{at}", fault) for at, fault in denied.problems]
    if problems:
        raise unfit(*problems)
    return shape(**values)


def value(kind: Kind, given: Any) -> Any:
    """One value by its kind. Denied with problems whose field is "", or "[0]" within a list."""
    if kind.name == "list" and kind.of is not None:
        return _list(kind, kind.of, given)
    try:
        return (READERS.get(kind.name) or OUTSIDE[kind.name])(kind, _text(given))
    except Wrong as wrong:
        raise unfit(("", str(wrong))) from None


def one(kind: Kind, given: Any, field: str) -> Any:
    """One value that stands by itself in a field of this name."""
    try:
        return value(kind, given)
    except Denied as denied:
        raise unfit(*((f"{field}{at}", fault) for at, fault in denied.problems)) from None


def unfit(*problems: tuple[str, str]) -> Denied:
    """What was sent cannot be taken."""
    told = "; ".join(f"{field}: {fault}" if field else fault for field, fault in problems)
    return Denied("unfit", told, problems)


def declared(shape: type) -> Iterator[tuple[str, Field[Any]]]:
    """The fields of a block by their names in the file."""
    yield from ((yaml_name(each), each) for each in fields(shape))


def _list(kind: Kind, of: Kind, given: Any) -> tuple[Any, ...]:
    if not isinstance(given, list | tuple):
        raise unfit(("", "must be a list"))
    problems: list[tuple[str, str]] = []
    values: list[Any] = []
    for index, each in enumerate(given[: kind.most + 1]):
        try:
            values.append(value(of, each))
        except Denied as denied:
            problems += [(f"[{index}]{at}", fault) for at, fault in denied.problems]
    if not kind.least <= len(given) <= kind.most:
        problems.append(("", f"must hold from {kind.least} to {kind.most} of them, not {len(given)}"))
    if not problems and len(set(values)) < len(values):
        problems.append(("", "holds the same value twice"))
    if problems:
        raise unfit(*problems)
    return tuple(values)


def _text(given: Any) -> str:
    """As it would stand in the file."""
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, Decimal):
        if not given.is_finite() or given.adjusted() > MAX_PLACES or int(given.as_tuple().exponent) < -MAX_PLACES:
            raise Wrong(f"must have at most {MAX_PLACES} digits before the point, and behind it")
        return f"{given:f}"
    if isinstance(given, str | int):
        return str(given)
    raise Wrong("must be a single value")
