"""Whether a JSON value is what a schema asks for: every fault, with the field that it is in. A fault never repeats the value.

Knows the part of JSON Schema (2020-12) in ``KEYWORDS``, which is what routes declare; ``ANNOTATIONS`` say something to readers and
check nothing. ``tests/unit/admin`` holds it against an implementation of the whole.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from gateway.value import value

Schema = Mapping[str, Any]
MAX_FAULTS = 20
ANNOTATIONS = frozenset(("title", "description", "examples", "default", "format", "deprecated"))


@value
class Fault:
    """``field`` is written as in the config: ``budget.limit_usd``, ``tags[0]``; "" is the whole."""

    field: str
    message: str


def faults(schema: Schema, value: Any) -> list[Fault]:
    """What is wrong with a value; nothing where it is right. Of very many, the first ``MAX_FAULTS``."""
    found = []
    for each in _faults(schema, value, ""):
        found.append(each)
        if len(found) == MAX_FAULTS:
            break
    return found


def near(word: str, known: Iterable[str]) -> str:
    """The end of a complaint about an unknown word: what was most likely meant, else what there is."""
    names = list(known)
    like = difflib.get_close_matches(word[:100], names, n=1)
    return f"did you mean {like[0]}?" if like else f"known are {', '.join(names)}" if names else "there are none"


def _faults(schema: Schema, value: Any, at: str) -> Iterator[Fault]:
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds is not None and not any(TYPES[kind](value) for kind in kinds):
        yield Fault(at, f"must be {' or '.join(_NAMES[kind] for kind in kinds)}")
        return
    for keyword, limit in schema.items():
        if keyword in KEYWORDS:
            yield from KEYWORDS[keyword](schema, limit, value, at)


def _number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _integer(value: Any) -> bool:
    """A Decimal is none: what has no fraction comes as int, but for what is larger than anything that is counted here."""
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())


TYPES: Mapping[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": _integer,
    "number": _number,
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "null": lambda value: value is None,
}
_NAMES = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "null",
}


def _same(one: Any, other: Any) -> bool:
    """JSON's equality: true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _enum(schema: Schema, choices: Sequence[Any], value: Any, at: str) -> Iterator[Fault]:
    if not any(_same(value, choice) for choice in choices):
        names = [choice for choice in choices if isinstance(choice, str)]
        like = difflib.get_close_matches(value[:100], names, n=1) if isinstance(value, str) else []
        hint = f"; did you mean {like[0]}?" if like else ""
        yield Fault(at, f"must be one of {', '.join('null' if each is None else str(each) for each in choices)}{hint}")


def _properties(schema: Schema, properties: Mapping[str, Schema], value: Any, at: str) -> Iterator[Fault]:
    if isinstance(value, dict):
        for name, inner in properties.items():
            if name in value:
                yield from _faults(inner, value[name], _within(at, name))


def _additional(schema: Schema, allowed: bool | Schema, value: Any, at: str) -> Iterator[Fault]:
    if not isinstance(value, dict) or allowed is True:
        return
    known = schema.get("properties", {})
    for name, inner in value.items():
        if name in known:
            continue
        if isinstance(allowed, Mapping):
            yield from _faults(allowed, inner, _within(at, "*"))
        else:  # the name itself came from outside: the closest known one is told in its place
            yield Fault(at, f"holds a field that does not belong there; {near(name, known)}")


def _required(schema: Schema, names: Sequence[str], value: Any, at: str) -> Iterator[Fault]:
    if isinstance(value, dict):
        yield from (Fault(_within(at, name), "is missing") for name in names if name not in value)


def _items(schema: Schema, inner: Schema, value: Any, at: str) -> Iterator[Fault]:
    if isinstance(value, list):
        for index, each in enumerate(value):
            yield from _faults(inner, each, f"{at}[{index}]")


def _least_items(schema: Schema, least: int, value: Any, at: str) -> Iterator[Fault]:
    if isinstance(value, list) and len(value) < least:
        yield Fault(at, f"must hold at least {least}")


def _most_items(schema: Schema, most: int, value: Any, at: str) -> Iterator[Fault]:
    if isinstance(value, list) and len(value) > most:
        yield Fault(at, f"must hold at most {most}")


def _unique(schema: Schema, wanted: bool, value: Any, at: str) -> Iterator[Fault]:
    texts = [each for each in value if isinstance(each, str)] if wanted and isinstance(value, list) else []
    if len(set(texts)) < len(texts):
        yield Fault(at, "holds the same value twice")


def _shortest(schema: Schema, least: int, value: Any, at: str) -> Iterator[Fault]:
    if isinstance(value, str) and len(value) < least:
        yield Fault(at, "must not be empty" if least == 1 else f"must have at least {least} characters")


def _longest(schema: Schema, most: int, value: Any, at: str) -> Iterator[Fault]:
    if isinstance(value, str) and len(value) > most:
        yield Fault(at, f"must have at most {most} characters")


def _pattern(schema: Schema, pattern: str, value: Any, at: str) -> Iterator[Fault]:
    exact = pattern[:-1] + r"\Z" if pattern.endswith("$") else pattern  # Python's $ lets a new line through
    if isinstance(value, str) and not re.search(exact, value, re.ASCII):
        yield Fault(at, str(schema.get("description") or f"must match {pattern}"))


def _least(schema: Schema, least: int, value: Any, at: str) -> Iterator[Fault]:
    if _number(value) and value < least:
        yield Fault(at, f"must be from {least} to {schema['maximum']}" if "maximum" in schema else f"is below {least}")


def _most(schema: Schema, most: int, value: Any, at: str) -> Iterator[Fault]:
    if _number(value) and value > most:
        yield Fault(at, f"must be from {schema['minimum']} to {most}" if "minimum" in schema else f"is above {most}")


def _above(schema: Schema, least: int, value: Any, at: str) -> Iterator[Fault]:
    if _number(value) and value <= least:
        yield Fault(at, f"must be above {least}")


def _any_of(schema: Schema, choices: Sequence[Schema], value: Any, at: str) -> Iterator[Fault]:
    """Of several that do not fit, the complaint of the one that comes closest: whose type at least is right."""
    tried = [list(_faults(choice, value, at)) for choice in choices]
    if all(tried):
        closest = min(range(len(tried)), key=lambda at: (not _is_of_type(choices[at], value), len(tried[at])))
        yield from tried[closest]


def _is_of_type(schema: Schema, value: Any) -> bool:
    kinds = schema.get("type", ())
    return not kinds or any(TYPES[kind](value) for kind in ([kinds] if isinstance(kinds, str) else kinds))


KEYWORDS: Mapping[str, Callable[[Schema, Any, Any, str], Iterator[Fault]]] = {
    "type": lambda schema, limit, value, at: iter(()),  # looked at before all others
    "enum": _enum,
    "properties": _properties,
    "additionalProperties": _additional,
    "required": _required,
    "items": _items,
    "minItems": _least_items,
    "maxItems": _most_items,
    "uniqueItems": _unique,
    "minLength": _shortest,
    "maxLength": _longest,
    "pattern": _pattern,
    "minimum": _least,
    "maximum": _most,
    "exclusiveMinimum": _above,
    "anyOf": _any_of,
}


def _within(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name
