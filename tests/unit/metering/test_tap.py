"""The tap: cheap, bounded, never in the way."""

from __future__ import annotations

import gzip
import zlib

import pytest

from gateway.dialects import Reading
from gateway.dialects.gemini import GeminiGenerate
from gateway.dialects.opaque import OpaqueOpenAI
from gateway.dialects.openai_chat import OpenAIChat
from gateway.metering import tap as tap_module
from gateway.metering.tap import Tap

EVENT = b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"abcd"},"finish_reason":null}]}\n\n'
BODY = b'{"model":"m","choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}'


def test_a_stream_is_digested_while_it_runs() -> None:
    """No more than 8 KB of it wait, and the pieces of text are joined."""
    tap = Tap(OpenAIChat(), stream=True, encoding="")
    for _ in range(10_000):
        tap.feed(EVENT)
        assert sum(map(len, tap._pending)) < tap_module.DIGEST_BYTES + len(EVENT)
    assert tap.reading.text_chars > 39_000
    assert tap.finish().text_chars == 40_000
    assert len(tap.reading.text) < 200
    assert tap.bytes == 10_000 * len(EVENT)


def test_a_body_is_read_at_the_end() -> None:
    """In pieces or not; finishing twice reads once."""
    tap = Tap(OpenAIChat(), stream=False, encoding="")
    tap.feed(BODY[:20])
    tap.feed(BODY[20:])
    assert tap.reading.usage is None
    assert tap.finish() is tap.finish()
    assert (tap.reading.usage, tap.reading.text) == ({"prompt_tokens": 3, "completion_tokens": 1}, ["hi"])


def test_a_body_beyond_the_cap_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives no reading; it is still counted in bytes."""
    monkeypatch.setattr(tap_module, "MAX_JSON_BYTES", 20_000)
    tap = Tap(OpenAIChat(), stream=False, encoding="")
    for _ in range(5):
        tap.feed(b" " * 10_000)
    assert tap._plain == []
    tap.feed(BODY)
    assert tap.finish() == Reading()
    assert tap.bytes == 50_000 + len(BODY)


@pytest.mark.parametrize("stream", [True, False])
def test_a_bomb_gives_no_reading_and_takes_no_memory(stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred kilobytes that want to be a hundred megabytes stop at the cap."""
    monkeypatch.setattr(tap_module, "MAX_INFLATED_BYTES", 1 << 20)
    monkeypatch.setattr(tap_module, "MAX_JSON_BYTES", 1 << 20)
    tap = Tap(OpenAIChat(), stream=stream, encoding="gzip")
    tap.feed(gzip.compress(b"\n" * (32 << 20)))
    assert tap._plain_bytes <= (1 << 20) + 65_536
    assert tap.finish() == Reading()


@pytest.mark.parametrize("encoding", ["compress", "gzip, br", "rot13"])
def test_an_unknown_coding_gives_no_reading(encoding: str) -> None:
    """Then the bill is an estimate."""
    tap = Tap(OpenAIChat(), stream=False, encoding=encoding)
    tap.feed(BODY)
    assert tap.finish() == Reading()


def test_damage_in_mid_stream_gives_no_reading() -> None:
    """Half a truth would be billed as the whole."""
    squeeze = zlib.compressobj(wbits=31)
    tap = Tap(OpenAIChat(), stream=True, encoding="gzip")
    tap.feed(squeeze.compress(EVENT * 5000) + squeeze.flush(zlib.Z_SYNC_FLUSH))
    tap.feed(b"\xff" * 4000)
    assert tap.finish() == Reading()


def test_a_compressed_stream_that_stops_midway_is_read_so_far() -> None:
    """That is what a client that hangs up leaves behind."""
    squeeze = zlib.compressobj(wbits=31)
    tap = Tap(OpenAIChat(), stream=True, encoding="gzip")
    tap.feed(squeeze.compress(EVENT * 5) + squeeze.flush(zlib.Z_SYNC_FLUSH))
    assert (tap.finish().text_chars, tap.reading.finished) == (20, False)


def test_an_opaque_answer_is_only_counted() -> None:
    """Nothing of it is kept."""
    tap = Tap(OpaqueOpenAI(), stream=True, encoding="")
    tap.feed(EVENT * 1000)
    assert tap._pending == []
    assert (tap.bytes, tap.finish()) == (1000 * len(EVENT), Reading())


def test_a_dialect_that_breaks_does_not_break_the_call() -> None:
    """The tap never raises: what goes wrong in it costs the reading only."""

    class Broken(OpenAIChat):
        def read(self, document: bytes, reading: Reading) -> None:
            raise RecursionError

    for stream in (True, False):
        tap = Tap(Broken(), stream=stream, encoding="")
        tap.feed(EVENT * 1000)
        assert tap.finish() == Reading()


def test_who_looks_is_shown_the_stream_when_it_wants_to_be() -> None:
    """First after so many bytes, then as it says, at the latest after 8 KB; what it is shown is up to date."""
    tap = Tap(OpenAIChat(), stream=True, encoding="")
    seen: list[tuple[int, int]] = []

    def look(reading: Reading, seen_bytes: int) -> int:
        seen.append((seen_bytes, reading.text_chars))
        return 200 if len(seen) < 3 else 1 << 20

    tap.show(look, 500)
    for _ in range(200):
        tap.feed(EVENT)
    size = len(EVENT)
    first = -(-500 // size)
    step = -(-200 // size)
    assert [each // size for each, _ in seen[:3]] == [first, first + step, first + 2 * step]
    assert seen[3][0] - seen[2][0] < tap_module.DIGEST_BYTES + size
    assert all(chars == bytes_ // size * 4 for bytes_, chars in seen)


def test_catching_up_with_nothing_new_does_not_put_the_next_look_off() -> None:
    """Otherwise a stream near its limit would run on for 8 KB."""
    tap = Tap(OpenAIChat(), stream=True, encoding="")
    seen: list[int] = []
    tap.show(lambda reading, seen_bytes: seen.append(seen_bytes) or 100, 100)
    for _ in range(6):
        tap.feed(EVENT)
        tap.catch_up()
        before = len(seen)
        tap.catch_up()
        assert len(seen) == before
    assert tap._due <= tap.bytes + 100


def test_the_elements_of_an_array_are_read_as_they_come() -> None:
    """Gemini's stream without ``alt=sse``; whole or cut off, what came is known."""
    tap = Tap(GeminiGenerate(), stream=False, encoding="", array=True)
    part = b'{"candidates":[{"content":{"parts":[{"text":"abcd"}]}}],"usageMetadata":{"promptTokenCount":3}}'
    tap.feed(b"[" + part + b"\n,\r\n" + part[:50])
    tap.catch_up()
    assert (tap.reading.text_chars, tap.reading.usage) == (4, {"promptTokenCount": 3})
    tap.feed(part[50:] + b"\n]")
    assert tap.finish().text_chars == 8
