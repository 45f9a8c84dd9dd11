"""Measures what it costs to know what a call cost: reading, counting, pricing, in microseconds of one core.

    python benchmarks/metering.py

Each figure is the best of seven rounds (others only add what the machine did besides). ``json.loads`` of the same answer is
measured beside it, as a unit that can be compared between machines.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from gateway.accounts import Account, Claim  # noqa: E402
from gateway.dialects.openai_chat import OpenAIChat  # noqa: E402
from gateway.extension import Extension, Text  # noqa: E402
from gateway.metering.charge import charge  # noqa: E402
from gateway.metering.meter import meter  # noqa: E402
from gateway.metering.tap import Tap  # noqa: E402
from gateway.metering.tokens import Counter  # noqa: E402
from pricing.book import Book  # noqa: E402
from pricing.price import price  # noqa: E402
from pricing.usage import Usage  # noqa: E402

AT = int(time.time())
ROUNDS, LOOPS = 7, 20_000
BOOK = Book.load()
COUNTER = Counter(lambda name: (ROOT / "gateway/metering/vocab" / f"{name}.xz").read_bytes())
DIALECT = OpenAIChat()
REQUEST = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Tell me a story."}]}).encode()
ASK = DIALECT.ask(REQUEST)
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1", "object": "chat.completion", "created": AT, "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "x" * 550}, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 120, "completion_tokens": 110, "total_tokens": 230,
            "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
        "service_tier": "default", "system_fingerprint": "fp_1",
    }
).encode()  # fmt: skip
EVENT = b"data: " + json.dumps(
    {
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": AT, "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "delta": {"content": " word"}, "finish_reason": None}], "system_fingerprint": "fp_1",
    }
).encode() + b"\n\n"  # fmt: skip


def microseconds(work: Callable[[], object], loops: int = LOOPS) -> float:
    """Of one call of ``work``."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter_ns()
        for _ in range(loops):
            work()
        best = min(best, (time.perf_counter_ns() - started) / loops / 1000)
    return best


def whole_answer() -> None:
    """A plain answer of 1 KB: tap, read, usage, price."""
    tap = Tap(DIALECT, False, "")
    tap.feed(ANSWER)
    metered = meter(DIALECT, ASK, tap.finish(), REQUEST, response_bytes=len(ANSWER), answered=True, counter=COUNTER)
    charge(BOOK, "openai", metered, ASK.model, AT)


def stream_of(events: int, *, grows: bool = False) -> Callable[[], None]:
    def work() -> None:
        tap = Tap(DIALECT, True, "")
        if grows:
            _grow(tap)
        for _ in range(events):
            tap.feed(EVENT)
        tap.finish()

    return work


def main() -> None:
    """Print a table, and write the same as JSON."""
    gc.disable()
    usage = Usage(input=120, cached_input=64, output=110)
    tariff = BOOK.tariff("openai", "gpt-4o-mini", AT)
    if tariff is None:
        raise SystemExit("the price book does not know gpt-4o-mini")
    found = {
        "a plain 1 KB answer, from bytes to dollars": microseconds(whole_answer),
        "of it: look up a price and apply it": microseconds(
            lambda: price(usage, BOOK.charge("openai", "gpt-4o-mini-2024-07-18", "gpt-4o-mini", AT))
        ),
        "a stream event without usage, read": (
            microseconds(stream_of(1000), 20) - microseconds(stream_of(0), 2000)
        ) / 1000,
        "the same, where its hold may grow": (
            microseconds(stream_of(1000, grows=True), 20) - microseconds(stream_of(0), 2000)
        ) / 1000,
        "of it: on the way (the rest is read 8 KB at a time)": microseconds(_feeder()),
        "for comparison: json.loads of the answer": microseconds(lambda: json.loads(ANSWER)),
    }  # fmt: skip
    for name, figure in found.items():
        print(f"{name:<55}{figure:>8.2f} us")
    out = ROOT / "benchmarks" / "results" / "metering.json"
    out.write_text(json.dumps({name: round(figure, 3) for name, figure in found.items()}, indent=2) + "\n")


def _grow(tap: Tap) -> None:
    """A stream that is looked at, and far from its check point."""
    call = SimpleNamespace(claims=())
    watch: Any = SimpleNamespace(call=call, dialect=DIALECT, look=None)
    claim = Claim(Account("global", "total"), 10**9, 10**12, grows=True)
    store: Any = None
    Extension("call", (claim,), Text(watch, 0, 600_000_000, 10**10), store, watch, lambda failure, last: None)
    tap.show(*watch.look)


def _feeder() -> Callable[[], None]:
    """Only what happens while the chunk passes: nothing is read here, the tap's digest is put off."""
    tap = Tap(DIALECT, True, "")
    tap._due = sys.maxsize
    pending = tap._pending

    def work() -> None:
        tap.feed(EVENT)
        pending.clear()

    return work


if __name__ == "__main__":
    main()
