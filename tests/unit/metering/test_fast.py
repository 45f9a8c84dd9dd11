"""The faster counter: used for long texts, only where it gives what tiktoken gives, and gone when it fails."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gateway.metering
from gateway.metering.fast import MIN_CHARS, QUESTIONS, fast_counter
from gateway.metering.tokens import Counter

toktok = pytest.importorskip("toktok", reason="toktok-rs is not installed")
VOCAB = Path(gateway.metering.__file__).parent / "vocab"
LONG = "The quick brown fox jumps over 13 lazy dogs.\n" * 100


def read(name: str) -> bytes:
    return (VOCAB / f"{name}.xz").read_bytes()


@pytest.fixture(scope="module")
def fast() -> Counter:
    return Counter(read)


@pytest.fixture(scope="module")
def slow() -> Counter:
    """The same without the extra."""
    counter = Counter(read)
    counter._fast.update({"o200k_base": None, "cl100k_base": None})
    return counter


@pytest.mark.parametrize("encoding", ["o200k_base", "cl100k_base"])
def test_it_is_used_for_long_texts_and_agrees(fast: Counter, slow: Counter, encoding: str) -> None:
    """To the token."""
    assert fast.count(LONG, encoding) == slow.count(LONG, encoding) > 1000
    assert fast._fast[encoding] is not None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.text(st.characters(codec="ascii")) | st.sampled_from(["don't ", "\n\n", "    ", "x" * 90, "日本語"]),
        min_size=1,
    )
)
def test_both_count_alike(fast: Counter, slow: Counter, words: list[str]) -> None:
    """Long texts of any words."""
    text = "".join(words)
    text *= 1 + MIN_CHARS // max(1, len(text))
    assert fast.count(text, "o200k_base") == slow.count(text, "o200k_base")


@pytest.mark.parametrize("text", [" " * 1_000_000, "\t" * 900_000 + "x", "a" * 1_000_000])
def test_what_tiktoken_chokes_on_is_counted(fast: Counter, text: str) -> None:
    """And quickly."""
    assert 0 < fast.count(text, "o200k_base") <= len(text)


def counting(answer: Any) -> SimpleNamespace:
    return SimpleNamespace(batch_count=answer)


def test_one_wrong_answer_and_it_is_not_used(monkeypatch: pytest.MonkeyPatch, slow: Counter) -> None:
    """A release that counts otherwise must not change bills."""
    right = [slow.count(question, "o200k_base") for question in QUESTIONS]
    for wrong in range(0, len(right), 5):
        answers = [count + (number == wrong) for number, count in enumerate(right)]
        monkeypatch.setitem(sys.modules, "toktok", counting(lambda texts, encoding, threads, found=answers: found))
        assert fast_counter("o200k_base", lambda text: slow.count(text, "o200k_base")) is None
    monkeypatch.setitem(sys.modules, "toktok", counting(lambda texts, encoding, threads: right))
    assert fast_counter("o200k_base", lambda text: slow.count(text, "o200k_base")) is not None


def test_where_it_is_missing_or_fails_tiktoken_counts(monkeypatch: pytest.MonkeyPatch, slow: Counter) -> None:
    """Nothing is lost by it."""
    monkeypatch.setitem(sys.modules, "toktok", None)
    counter = Counter(read)
    assert counter.count(LONG, "o200k_base") == slow.count(LONG, "o200k_base")
    assert counter._fast["o200k_base"] is None

    def broken(text: str) -> int:
        raise RuntimeError(text[:5])

    counter._fast["o200k_base"] = broken
    assert counter.count(LONG, "o200k_base") == slow.count(LONG, "o200k_base")
    assert counter._fast["o200k_base"] is None
