"""Speech, transcription and translation: tokens, seconds, characters, and what stands in for them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.call import Metered
from gateway.dialects.openai_speech import OpenAISpeech
from gateway.dialects.openai_transcription import OpenAITranscription
from gateway.metering.meter import meter
from gateway.metering.tap import Tap
from tests.promise.test_dialect import COUNTER
from tests.unit.dialects.test_images import form

SPEECH = OpenAISpeech()
HEARD = OpenAITranscription("transcription")
SOUND = b"\xff\xf3\x00" * 12_000


def metered(dialect: Any, request: bytes, answer: bytes, *, stream: bool = False, media: bool = False) -> Metered:
    tap = Tap(dialect, stream, "", media=media)
    tap.feed(answer)
    return meter(dialect, dialect.ask(request), tap.finish(), request, response_bytes=len(answer), answered=True, counter=COUNTER)  # fmt: skip


def spoken(model: str, text: str = "Hello, world!") -> bytes:
    return json.dumps({"model": model, "input": text, "voice": "alloy"}).encode()


def heard(model: str, **fields: str) -> bytes:
    more = [(name, value.encode()) for name, value in fields.items()]
    return form(("model", model.encode()), *more, ("file@", SOUND))


def events(*documents: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in documents)


def test_speech_is_billed_by_the_character() -> None:
    """Characters, not bytes: OpenAI's tts models, and others that say nothing."""
    found = metered(SPEECH, spoken("tts-1", "Grüß Gott \N{SNOWMAN}"), SOUND, media=True)
    assert (found.usage.counts(), found.source, found.method) == ({"characters": 11}, "counted", "units")


def test_speech_of_a_token_model_is_estimated_from_its_text() -> None:
    """Two tokens of sound for a character; the text is counted."""
    found = metered(SPEECH, spoken("gpt-4o-mini-tts"), SOUND, media=True)
    assert found.usage.counts() == {"input": 4, "audio_out": 26}


def test_streamed_speech_tells_its_tokens() -> None:
    """``speech.audio.done``."""
    answer = events(
        {"type": "speech.audio.delta", "audio": "AAAA" * 9000},
        {"type": "speech.audio.done", "usage": {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}},
    )
    found = metered(SPEECH, spoken("gpt-4o-mini-tts"), answer, stream=True)
    assert (found.usage.counts(), found.source) == ({"input": 14, "audio_out": 101}, "provider")


@pytest.mark.parametrize("said", [None, 5, ["a"], ""])
def test_speech_of_nothing_is_no_error(said: Any) -> None:
    """It is the provider's to refuse."""
    body = json.dumps({"model": "tts-1", "input": said}).encode()
    assert SPEECH.ask(body).characters == 0
    assert list(SPEECH.prompt(body)) == []


def test_a_transcription_by_the_token() -> None:
    """Sound is in a field of its own; what is no sound is the prompt."""
    usage = {
        "type": "tokens",
        "input_tokens": 114,
        "input_token_details": {"text_tokens": 14, "audio_tokens": 100},
        "output_tokens": 30,
        "total_tokens": 144,
    }
    found = metered(HEARD, heard("gpt-4o-transcribe"), json.dumps({"text": "Hello.", "usage": usage}).encode())
    assert (found.usage.counts(), found.source) == ({"input": 14, "audio_in": 100, "output": 30}, "provider")


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        ({"text": "a", "usage": {"type": "duration", "seconds": 9}}, 9),
        ({"text": "a", "duration": 8.47, "usage": {"type": "duration", "seconds": 9}}, 9),
        ({"text": "a", "duration": 8.5}, 9),
        ({"text": "a", "duration": 8.47, "segments": []}, 8),
        ({"text": "a", "duration": 0.2}, 1),
        ({"text": "a", "duration": 0}, 0),
    ],
)
def test_a_transcription_by_the_second(answer: dict[str, Any], seconds: int) -> None:
    """whisper: to the nearest second, and what is not silent is not free."""
    found = metered(HEARD, heard("whisper-1"), json.dumps(answer).encode())
    assert (found.usage.seconds, found.usage.input, found.usage.output) == (seconds, 0, 0)
    assert found.source == "provider"


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (b"1\n00:00:00,000 --> 00:00:04,000\nHi.\n\n2\n00:00:04,000 --> 01:02:03,040\nThere --> here.\n", 9),
        (b"1\n00:00:00,000 --> 00:00:04,000\nHi.\n\n2\n00:00:04,000 --> 01:02:03,040\nThere.\n", 3724),
        (b"WEBVTT\n\n00:00.000 --> 00:07.000\nHi.\n", 7),
        (b"Hello, and that was all.\n", 9),
        (b'{"text": "From a server that tells nothing."}', 9),
    ],
)
def test_an_answer_without_usage_is_as_long_as_its_last_subtitle(answer: bytes, seconds: int) -> None:
    """Without one, as 36,000 bytes of compressed speech are: 9 seconds."""
    found = metered(HEARD, heard("whisper-1", response_format="srt"), answer)
    assert (found.usage.counts(), found.source) == ({"seconds": seconds}, "estimated")


def test_a_streamed_transcription_that_was_cut_is_not_free() -> None:
    """The sound is estimated, the text that came is counted."""
    answer = events({"type": "transcript.text.delta", "delta": "Hello, world"}, {"type": "transcript.text.delta", "delta": "!"})  # fmt: skip
    found = metered(HEARD, heard("gpt-4o-transcribe", stream="true"), answer, stream=True)
    assert (found.usage.counts(), found.source) == ({"audio_in": 90, "output": 4}, "estimated")
    whole = answer + events({"type": "transcript.text.done", "text": "Hello, world!", "usage": {"input_tokens": 90, "output_tokens": 5}})  # fmt: skip
    assert metered(HEARD, heard("gpt-4o-transcribe", stream="true"), whole, stream=True).usage.counts() == {
        "audio_in": 90,
        "output": 5,
    }


def test_what_is_asked_of_a_form() -> None:
    """Model and stream from its fields; the file bounds the sound and is no text."""
    ask = HEARD.ask(heard("whisper-1", stream="true", prompt="Names: Ada."))
    assert (ask.model, ask.stream, ask.fault) == ("whisper-1", True, "")
    assert (ask.seconds, ask.likely_seconds) == (72, 9)
    assert ask.input_bytes < 600
    assert list(HEARD.prompt(heard("whisper-1", prompt="Names: Ada."))) == ["Names: Ada."]


@given(st.binary(max_size=300) | st.text(alphabet="-> 0123456789:.,\n", max_size=80).map(str.encode))
def test_no_answer_makes_it_raise(answer: bytes) -> None:
    """Whatever stands where subtitles were expected."""
    for dialect, request in ((HEARD, heard("whisper-1")), (SPEECH, spoken("tts-1"))):
        assert metered(dialect, request, answer).usage.counts().get("seconds", 0) >= 0
