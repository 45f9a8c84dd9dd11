"""A plain JSON answer, kept and read once: it tells what a tap would have told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects import Dialect, Reading
from gateway.dialects.table import EXACT, OPAQUE
from gateway.metering import tap, whole
from gateway.metering.tap import Tap
from gateway.metering.whole import Whole

DIALECTS = [dialect for dialect in {*EXACT.values(), *OPAQUE.values()} if dialect.metered]
USAGES: list[Any] = [None, {}, {"prompt_tokens": 3, "completion_tokens": 1}, {"input_tokens": 3, "output_tokens": 2}]
ANSWERS = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["m", "", 5]),
        "usage": st.sampled_from(USAGES),
        "choices": st.lists(
            st.sampled_from([{"message": {"content": "hi"}, "finish_reason": "stop"}, {"text": "ho"}, 1])
        ),
        "content": st.sampled_from([[{"type": "text", "text": "hi"}], "hi"]),
        "stop_reason": st.sampled_from([None, "end_turn"]),
        "output": st.sampled_from([[], [{"content": [{"text": "hi"}]}]]),
        "status": st.sampled_from(["completed", "queued"]),
        "id": st.just("id"),
    },
)
BODIES = ANSWERS.map(lambda answer: json.dumps(answer).encode()) | st.binary(max_size=50)


@given(st.sampled_from(DIALECTS), BODIES, st.lists(st.integers(1, 40), max_size=5), st.booleans())
def test_it_tells_what_a_tap_tells(dialect: Dialect, body: bytes, sizes: list[int], is_cut: bool) -> None:
    """Of any answer, in any pieces, also of one that broke off; twice the same."""
    body = body[: len(body) // 2] if is_cut else body
    kept, tapped = Whole(dialect), Tap(dialect, stream=False, encoding="")
    for size in [*sizes, len(body)]:
        piece, body = body[:size], body[size:]
        kept.feed(piece)
        tapped.feed(piece)
    assert kept.finish() == tapped.finish()
    assert kept.finish() is kept.reading
    assert kept.bytes == tapped.bytes


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/images/generations"])
def test_what_is_too_large_is_not_kept(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """It gives no reading; it is still counted in bytes."""
    for module in (tap, whole):
        monkeypatch.setattr(module, "MAX_JSON_BYTES", 20_000)
        monkeypatch.setattr(module, "IMAGE_BYTES", 30_000)
    body = b'{"model":"m","usage":{"prompt_tokens":3,"completion_tokens":1}}'
    limit = 30_000 if "images" in path else 20_000
    for padding, is_read in ((limit - len(body), True), (limit - len(body) + 1, False)):
        kept = Whole(EXACT[path])
        for piece in (b" " * padding, body):
            kept.feed(piece)
        assert bool(kept._pieces) is is_read
        kept.feed(b"")
        assert (kept.finish() != Reading()) is is_read
        assert kept.bytes == padding + len(body)


def test_a_bug_in_a_dialect_costs_the_reading_only() -> None:
    """The call is settled all the same."""

    class Broken:
        operation = "chat"

        def read(self, document: bytes, reading: Reading) -> None:
            reading.model = "half"
            raise RecursionError

    broken: Any = Broken()
    kept = Whole(broken)
    kept.feed(b"{}")
    assert kept.finish() == Reading()
