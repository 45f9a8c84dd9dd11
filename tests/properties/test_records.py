"""A record is written in pieces, its counts one by one: whatever it holds, the text is that of all of it at once."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from gateway.call import RARE, Record, as_json, from_json
from pricing.usage import UNITS, Usage

words = st.sampled_from(["", "a", "gpt-4o", 'odd "one" %b\\', "日本", "{}"])
numbers = st.integers(0, 2**53)
times = st.floats(0, 1e9) | st.sampled_from([0.0, 0.001, 39.751])
VALUES = {
    "str": words,
    "int": numbers,
    "float": times,
    "float | None": st.none() | times,
    "bool": st.booleans(),
    "dict[str, str]": st.dictionaries(words, words, max_size=2),
    "dict[str, int]": st.dictionaries(words, numbers, max_size=2),
    "dict[str, Any] | None": st.none() | st.dictionaries(words, st.none() | numbers | words, max_size=2),
    "tuple[str, ...]": st.lists(words, max_size=2).map(tuple),
}
"""What a field of each type may hold."""
usual, rare = (
    {name: VALUES[f.type] for name, f in Record.__dataclass_fields__.items() if (name in RARE) is is_rare}
    for is_rare in (False, True)
)
records = st.builds(Record, **usual) | st.builds(Record, **usual, **rare)


def written_at_once(record: Record) -> bytes:
    """By orjson alone, and without the fields that are left out."""
    told = {name: getattr(record, name) for name in Record.__dataclass_fields__}
    if not any(told[name] for name in RARE):
        told = {name: value for name, value in told.items() if name not in RARE}
    return orjson.dumps(told)


@given(st.lists(records, min_size=1, max_size=8))
def test_the_text_of_a_record_is_that_of_all_its_fields(found: list[Record]) -> None:
    """Of one whose form is new, and of the next of the same form."""
    for record in found + found:
        text = as_json(record)
        assert text == written_at_once(record)
        assert from_json(text).keys() == Record.__dataclass_fields__.keys()


@given(st.builds(Usage, **dict.fromkeys(UNITS, st.sampled_from([0, 0, 1, 7, 2**40]))))
def test_counts_are_the_fields_that_are_not_zero(usage: Usage) -> None:
    """In the order of the fields."""
    assert list(usage.counts().items()) == [(unit, getattr(usage, unit)) for unit in UNITS if getattr(usage, unit)]
