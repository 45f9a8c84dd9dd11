"""``@value``: what the tests run with and what a gateway runs with differ in nothing but the freeze."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, field, replace
from typing import Any

import pytest

import pricing.value
from pricing.value import value


def declared() -> type[Any]:
    """A class as one would write it, each time a new one."""

    class Place:
        """Somewhere."""

        name: str
        key: str = field(repr=False)
        seen: list[int] = field(default_factory=list, compare=False)
        port: int = 80

    return Place


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> type[Any]:
    """As a gateway has it."""
    monkeypatch.setattr(pricing.value, "FROZEN", False)
    return value(declared())


FEW_AND_MANY = [("a", "k"), ("a", "l"), ("b", "k"), ("a", "k", [1]), ("a", "k", [], 81), ("a", "k", [1], 81)]


def test_a_value_is_compared_hashed_and_shown_as_a_frozen_dataclass_is(place: type[Any]) -> None:
    """Held against one: which fields count for what is the same."""
    like = dataclass(frozen=True, slots=True)(declared())
    for one in FEW_AND_MANY:
        assert hash(place(*one)) == hash(like(*one))
        assert repr(place(*one)) == repr(like(*one))
        for other in FEW_AND_MANY:
            assert (place(*one) == place(*other)) is (like(*one) == like(*other))
    assert place("a", "k") != like("a", "k")
    assert place("a", "k") != ("a", "k", 80)


def test_a_secret_is_not_shown(place: type[Any]) -> None:
    """``repr=False`` keeps a field out."""
    assert "hidden" not in repr(place("a", "hidden"))


def test_what_a_class_says_itself_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own ``__repr__``, as with a dataclass."""
    monkeypatch.setattr(pricing.value, "FROZEN", False)

    @value
    class Spoken:
        word: str

        def __repr__(self) -> str:
            return self.word

    assert repr(Spoken("so")) == "so"
    assert Spoken("so") == Spoken("so")


def test_another_value_is_made_of_one(place: type[Any]) -> None:
    """And a slot that is not a field is nobody's."""
    assert replace(place("a", "k"), port=81) == place("a", "k", [], 81)
    with pytest.raises(AttributeError):
        place("a", "k").colour = "red"


def test_the_tests_run_frozen() -> None:
    """What mypy cannot see fails here."""
    with pytest.raises(FrozenInstanceError):
        value(declared())("a", "k").port = 81
