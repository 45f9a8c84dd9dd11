"""``@value``: a frozen dataclass to the type checker and to readers, a plain one at run time.

A frozen ``__init__`` sets each field through ``object.__setattr__``: 4.1 us against 1.1 for the Record (measured). A call makes
about ten such values, so the freeze is mypy's here and the tests': nobody can assign a field and pass the checks.

Values are seldom compared and never while a call is served, and there are 150 kinds of them: what a dataclass writes and compiles for
each, so that this is quick, was a seventh of a start. All share three methods instead, which do the same.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")

FROZEN = os.environ.get("TOLLGATE_FROZEN") == "1"
"""The tests switch the freeze on, so that what mypy cannot see fails there."""


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """A dataclass with slots that is compared and hashed by its fields."""
    if FROZEN:
        return dataclass(frozen=True, slots=True)(cls)
    for name, method in SHARED.items():
        if name not in vars(cls):
            setattr(cls, name, method)
    return dataclass(slots=True, eq=False, repr=False)(cls)


def _equal(self: Any, other: object) -> bool:
    return _compared(self) == _compared(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: Any) -> int:
    return hash(_compared(self))


def _repr(self: Any) -> str:
    told = ", ".join(f"{each.name}={getattr(self, each.name)!r}" for each in fields(self) if each.repr)
    return f"{type(self).__qualname__}({told})"


def _compared(self: Any) -> tuple[Any, ...]:
    return tuple([getattr(self, each.name) for each in fields(self) if each.compare])


SHARED = {"__eq__": _equal, "__hash__": _hash, "__repr__": _repr}
