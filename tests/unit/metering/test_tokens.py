"""Text to tokens: the same as tiktoken, and alive where tiktoken is not."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest
import tiktoken
import tiktoken.load
from hypothesis import given, settings
from hypothesis import strategies as st

import gateway.metering
from gateway.metering.encodings import SHAPES
from gateway.metering.tokens import MAX_CHARS, Counter
from gateway.metering.vocabulary import original, unpack

VOCAB = Path(gateway.metering.__file__).parent / "vocab"

ENCODINGS = sorted(SHAPES)
each_encoding = pytest.mark.parametrize("encoding", ENCODINGS)
COUNTER = Counter(lambda name: (VOCAB / f"{name}.xz").read_bytes())


@pytest.fixture(scope="module")
def theirs() -> dict[str, tiktoken.Encoding]:
    """tiktoken's own encodings, made by its own code; only its download is replaced, by the originals of what we ship."""

    def download(address: str) -> bytes:
        name = address.rsplit("/", 1)[-1].removesuffix(".tiktoken")
        return original(list(unpack((VOCAB / f"{name}.xz").read_bytes(), SHAPES[name].sha256)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", "")
        patch.setattr(tiktoken.load, "read_file", download)
        return {name: tiktoken.get_encoding(name) for name in SHAPES}


def test_our_shapes_are_those_of_tiktoken(theirs: dict[str, tiktoken.Encoding]) -> None:
    """Pattern and special tokens, letter by letter."""
    for name, shape in SHAPES.items():
        assert shape.pattern == theirs[name]._pat_str
        assert shape.special_tokens == theirs[name]._special_tokens


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(max_size=300)
    | st.lists(st.sampled_from(["  ", "\n", "Don't", "ſ", "1234", "日本", "\N{GRINNING FACE}", "a"])).map("".join)
)
def test_counts_are_those_of_tiktoken(theirs: dict[str, tiktoken.Encoding], text: str) -> None:
    """On any text."""
    for name in ENCODINGS:
        assert COUNTER.count(text, name) == len(theirs[name].encode(text, disallowed_special=()))


@pytest.mark.timeout(30)
@each_encoding
@pytest.mark.parametrize(
    "text",
    [" " * 10**6, "\t" * 10**6, " " * 999_999 + "x", "\n" * 10**6, ("\t" * 99_999 + "x") * 10, "a" * 10**6, "\ud800" * 10, "\0" * 1000],
    ids=["spaces", "tabs", "spaces then x", "newlines", "runs just short of a cut", "letters", "surrogates", "nulls"],
)  # fmt: skip
def test_every_text_is_survived(encoding: str, text: str) -> None:
    """tiktoken alone panics on some of these, with an exception that is no Exception; a careless guard takes a minute."""
    assert 0 < COUNTER.count(text, encoding) <= len(text.encode(errors="replace"))


def test_a_panic_becomes_a_bound() -> None:
    """The number of bytes; anything else that is no Exception goes on up."""

    class PanicException(BaseException):
        pass

    class Panicking:
        def __init__(self, error: BaseException) -> None:
            self.error = error

        def encode_ordinary(self, text: str) -> list[int]:
            raise self.error

    counter = Counter(lambda name: b"")
    for error, expected in ((PanicException(), 5), (ValueError(), 5)):
        counter._encodings["o200k_base"] = Panicking(error)  # type: ignore[assignment]
        assert counter.count("abcß", "o200k_base") == expected
    counter._encodings["o200k_base"] = Panicking(KeyboardInterrupt())  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        counter.count("abc", "o200k_base")


@each_encoding
def test_special_tokens_are_plain_text(encoding: str) -> None:
    """A client must not pay one token for a text that is billed as seven, nor get an error."""
    assert COUNTER.count("<|endoftext|>", encoding) > 1


def test_beyond_the_cap_the_count_goes_on_in_proportion() -> None:
    """Counting a hundred megabytes would take a thread for seconds."""
    capped = COUNTER.count("word " * (MAX_CHARS // 5), "o200k_base")
    assert COUNTER.count("word " * (MAX_CHARS // 5 * 7), "o200k_base") == 7 * capped
    assert COUNTER.count_all(["word " * (MAX_CHARS // 5)] * 7, "o200k_base") == 7 * capped


def test_texts_are_counted_each_by_itself() -> None:
    """Messages are not glued together."""
    assert COUNTER.count_all(["hello", " world", ""], "o200k_base") == 2
    assert COUNTER.count_all(["hel", "lo"], "o200k_base") > COUNTER.count("hello", "o200k_base")
    assert COUNTER.count_all([], "o200k_base") == 0


def test_a_vocabulary_is_read_once_and_only_when_needed() -> None:
    """80 MB are not spent before somebody counts."""
    asked: list[str] = []

    def vocabulary(name: str) -> bytes:
        asked.append(name)
        return (VOCAB / f"{name}.xz").read_bytes()

    counter = Counter(vocabulary)
    assert asked == []
    counter.count("a", "cl100k_base")
    counter.count("b", "cl100k_base")
    assert asked == ["cl100k_base"]


@pytest.mark.parametrize("damaged", [b"", b"not xz", lzma.compress(b"\x01a\x01b"), lzma.compress(b"\x05a")])
def test_a_wrong_vocabulary_is_refused(damaged: bytes) -> None:
    """Wrong counts look like right ones."""
    with pytest.raises(ValueError, match="vocabulary"):
        Counter(lambda name: damaged).count("a", "o200k_base")


def test_the_shipped_files_are_there() -> None:
    """One for each shape, and nothing else that pretends to be one."""
    assert sorted(path.stem for path in VOCAB.glob("*.xz")) == ENCODINGS
