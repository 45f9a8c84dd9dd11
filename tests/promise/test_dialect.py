"""One suite, every dialect: real-shaped answers and what they come to, cut anywhere, fuzzed."""

from __future__ import annotations

import itertools
import json
import zlib
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gateway.metering
from gateway.dialects import Dialect, Reading
from gateway.dialects.addressed import GEMINI
from gateway.dialects.table import EXACT, OPAQUE, dialect_for
from gateway.errors import Kind, Refusal
from gateway.metering.charge import charge
from gateway.metering.meter import meter
from gateway.metering.tap import Tap
from gateway.metering.tokens import Counter
from pricing.book import Book

CORPUS = Path(__file__).parent.parent / "corpus"
BOOK = Book.load(CORPUS / "own_prices.json")
VOCAB = Path(gateway.metering.__file__).parent / "vocab"
COUNTER = Counter(lambda name: (VOCAB / f"{name}.xz").read_bytes())
DIALECTS = [*{type(dialect): dialect for dialect in (*EXACT.values(), *OPAQUE.values(), *GEMINI.values())}.values()]


@dataclass(frozen=True)
class Case:
    name: str
    dialect: Dialect
    request: bytes
    response: bytes
    stream: bool
    expected: dict[str, Any]


def load(folder: Path) -> Case:
    expected = json.loads((folder / "expected.json").read_text())
    stream = (folder / "response.sse").exists()
    response = (folder / ("response.sse" if stream else "response.json")).read_bytes()
    dialect = dialect_for(expected["protocol"], "POST", expected["path"])
    name = f"{folder.parent.name}/{folder.name}"
    return Case(name, dialect, (folder / "request.json").read_bytes(), response, stream, expected)


CASES = [load(path.parent) for path in sorted(CORPUS.glob("*/*/expected.json"))]
STREAMS = [case for case in CASES if case.stream]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
each_dialect = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: type(dialect).__name__)


def read(case: Case, pieces: list[bytes], encoding: str = "") -> Reading:
    tap = Tap(case.dialect, case.stream, encoding)
    for piece in pieces:
        tap.feed(piece)
    return tap.finish()


def facts(reading: Reading) -> tuple[object, ...]:
    return (
        reading.model,
        reading.service_tier,
        reading.usage,
        "".join(reading.text),
        reading.text_chars,
        reading.finished,
    )


def by_hand(bill: dict[str, Any]) -> tuple[dict[str, int], int]:
    """Counts by unit and the sum in nano-dollars of a bill's lines (``1200 input x 2.50``: dollars a million), without a word
    of ``pricing``.
    """
    counts: dict[str, int] = {}
    millionths = Decimal(0)
    for line in bill["lines"]:
        count, unit, _, rate = line.split()
        counts[unit] = int(count)
        millionths += int(count) * Decimal(rate)
    return counts, int((millionths * 1000).quantize(Decimal(1), ROUND_HALF_UP))


@each_case
def test_an_answer_costs_what_was_worked_out_by_hand(case: Case) -> None:
    """From the provider's own documentation, which the case names; to the nano-dollar."""
    bill = case.expected["bill"]
    counts, nanousd = by_hand(bill)
    assert nanousd == bill["nanousd"]
    assert bill["rates_from"]
    assert bill["rule_from"]
    assert {unit: count for unit, count in counts.items() if unit != "requests"} == case.expected["usage"]
    ask, reading = case.dialect.ask(case.request), read(case, [case.response])
    metered = meter(
        case.dialect, ask, reading, case.request, response_bytes=len(case.response), answered=True, counter=COUNTER
    )
    at = int(datetime.fromisoformat(bill["at"]).timestamp())
    cost = charge(BOOK, bill["provider"], metered, ask.model, at)
    assert (cost.nanousd, cost.unpriced) == (bill["nanousd"], False), cost.rows


def test_the_corpus_is_there() -> None:
    """An empty folder would make every other test of it pass."""
    assert len(CASES) >= 170
    families = {case.name.split("/")[0] for case in CASES}
    assert families >= {"openai_chat", "openai_responses", "anthropic_messages", "gemini_generate"}


@each_case
def test_an_answer_comes_to_what_it_should(case: Case) -> None:
    """Usage, its source and what else is recorded, for each case of the corpus."""
    ask = case.dialect.ask(case.request)
    reading = read(case, [case.response])
    metered = meter(
        case.dialect, ask, reading, case.request, response_bytes=len(case.response), answered=True, counter=COUNTER
    )
    found = {
        "usage": metered.usage.counts(),
        "source": metered.source,
        "model_served": metered.model_served,
        "service_tier": metered.service_tier,
        "finished": reading.finished,
        "text": "".join(reading.text),
    }
    assert found == {key: case.expected.get(key, found[key]) for key in found}
    assert ask.stream is case.expected.get("stream", case.stream)
    assert ask.fault == ""


@each_case
def test_an_answer_fed_one_byte_at_a_time_reads_the_same(case: Case) -> None:
    """How the bytes arrive says nothing about what they mean."""
    single = [case.response[at : at + 1] for at in range(len(case.response))]
    assert facts(read(case, single)) == facts(read(case, [case.response]))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(CASES), st.lists(st.integers(0, 4000), max_size=8), st.booleans())
def test_an_answer_cut_anywhere_reads_the_same(case: Case, cuts: list[int], squeezed: bool) -> None:
    """Also inside a character, inside a line end, and inside compressed bytes."""
    body = zlib.compress(case.response) if squeezed else case.response
    edges = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    pieces = [body[start:end] for start, end in itertools.pairwise(edges)]
    assert facts(read(case, pieces, "deflate" if squeezed else "")) == facts(read(case, [case.response]))


@pytest.mark.parametrize("case", STREAMS, ids=lambda case: case.name)
def test_a_stream_with_other_line_ends_reads_the_same(case: Case) -> None:
    """LF, CR LF and CR are all line ends in an event stream."""
    plain = case.response.replace(b"\r\n", b"\n")
    for line_end in (b"\r\n", b"\r"):
        assert facts(read(case, [plain.replace(b"\n", line_end)])) == facts(read(case, [case.response]))


@pytest.mark.parametrize("case", STREAMS, ids=lambda case: case.name)
def test_a_stream_broken_off_anywhere_is_never_free(case: Case) -> None:
    """Hanging up before the usage comes must not be a discount to nothing."""
    ask = case.dialect.ask(case.request)
    whole = json.loads(case.request)
    assert whole
    for end in range(1, len(case.response) - 1, 97):
        reading = read(case, [case.response[:end]])
        metered = meter(case.dialect, ask, reading, case.request, response_bytes=end, answered=True, counter=COUNTER)
        assert metered.usage.input_tokens > 0
        assert metered.source in {"provider", "counted", "estimated"}
        assert metered.usage.output_tokens > 0 or not reading.text_chars


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = [
    "model",
    "stream",
    "n",
    "best_of",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "messages",
    "content",
    "role",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "delta",
    "choices",
    "message",
    "finish_reason",
    "usage",
    "type",
    "response",
    "output",
    "text",
    "input",
    "prompt",
    "system",
    "tools",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "prompt_tokens_details",
    "cached_tokens",
    "completion_tokens_details",
    "reasoning_tokens",
    "input_tokens",
    "output_tokens",
    "cache_creation",
    "iterations",
    "server_tool_use",
    "content_block",
    "item",
    "status",
    "service_tier",
    "audio",
    "source",
    "summary",
    "data",
    "suffix",
    "instructions",
    "response_format",
    "output_tokens_details",
    "object",
    "contents",
    "parts",
    "candidates",
    "finishReason",
    "usageMetadata",
    "promptTokenCount",
    "candidatesTokenCount",
    "promptTokensDetails",
    "modality",
    "tokenCount",
    "generationConfig",
    "maxOutputTokens",
    "requests",
]
WORDS = [
    "message", "message_start", "message_delta", "content_block_delta", "content_block_start", "response.completed",
    "response.output_text.delta", "response.output_item.added", "compaction", "image", "text", "completed", "12", "-1",
]  # fmt: skip
LIKELY = st.recursive(
    JSON | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=40,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), LIKELY, max_size=8) | JSON)
def test_no_json_makes_a_dialect_raise(value: Any) -> None:
    """Clients and providers may send anything; what cannot be read is left out, and no count is negative."""
    body = orjson.dumps(value)
    for dialect in DIALECTS:
        ask = dialect.ask(body)
        assert ask.input_bytes == len(body)
        assert ask.choices >= 1
        assert ask.max_output_tokens is None or ask.max_output_tokens >= 0
        assert all(type(text) is str for text in dialect.prompt(body))
        assert dialect.framing(body) >= 0
        reading = Reading()
        dialect.read(body, reading)
        usage = dialect.usage(value if isinstance(value, dict) else {})
        assert usage is None or all(count >= 0 for count in usage.counts().values())
        metered = meter(dialect, ask, reading, body, response_bytes=len(body), answered=True, counter=COUNTER)
        assert metered.source in {"provider", "counted", "estimated", ""}


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_make_a_dialect_raise(body: bytes) -> None:
    """Not even those that are no JSON, no text and no stream."""
    for dialect in DIALECTS:
        dialect.ask(body)
        list(dialect.prompt(body))
        dialect.framing(body)
        dialect.read(body, Reading())
        for stream in (True, False):
            for encoding in ("", "gzip", "deflate", "br", "zstd", "rot13"):
                tap = Tap(dialect, stream, encoding)
                tap.feed(body)
                tap.finish()


@each_dialect
def test_nesting_as_deep_as_the_parser_allows_is_read_without_recursion(dialect: Dialect) -> None:
    """A body is a stranger's choice; Python's stack is ours."""
    for depth in (300, 1000, 5000):
        deep = b"[" * depth + b'"x"' + b"]" * depth
        body = b'{"messages":%b,"input":%b,"prompt":%b,"system":%b,"tools":%b}' % (deep, deep, deep, deep, deep)
        assert dialect.metered is False or bool(dialect.ask(body).fault) is (depth > 1000)
        list(dialect.prompt(body))
        dialect.framing(body)
        dialect.read(b'{"choices":[{"message":{"content":%b}}],"output":%b}' % (deep, deep), Reading())


@each_dialect
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"1", b'"x"', b"null", b'{"n": NaN}', b'{"a": "\xff"}', b'{"a": "\\ud800"}']
)
def test_a_body_that_is_no_json_object_is_a_fault_and_no_error(dialect: Dialect, body: bytes) -> None:
    """The fault is told in the Ask; what follows from it is decided elsewhere."""
    ask = dialect.ask(body)
    assert bool(ask.fault) is dialect.metered
    assert list(dialect.prompt(body)) == []


@each_dialect
@pytest.mark.parametrize("kind", list(Kind))
def test_every_refusal_is_json_in_every_dialect(dialect: Dialect, kind: Kind) -> None:
    """The message is always where the SDK of the protocol looks for it."""
    body = json.loads(dialect.refuse(Refusal(kind, 'Say "why" \N{SNOWMAN}')))
    assert body["error"]["message"] == 'Say "why" \N{SNOWMAN}'


@each_dialect
def test_a_credential_is_one_header(dialect: Dialect) -> None:
    """Name and value, in bytes, ready for the wire."""
    name, value = dialect.credential("sk-test")
    assert name.lower() in {b"authorization", b"x-api-key", b"x-goog-api-key"}
    assert value.endswith(b"sk-test")
