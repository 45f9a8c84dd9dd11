"""The dialect of ``audio/transcriptions`` and ``audio/translations``: sound in, text out.

Billed by the second (``whisper``) or by the token (``gpt-4o-transcribe``); the usage says which. Answers without usage are text,
subtitles or another server's JSON: then the length is that of the last subtitle, else the declared number of bytes for a
second. Source: OpenAI API reference, "Audio"; pricing.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from gateway.dialects.form import read_request
from gateway.dialects.values import Json, add_text, as_object, asked, count, note_model, parse
from gateway.dialects.voices import OpenAIVoice
from pricing.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.call import Ask
    from gateway.dialects import Reading

COUNTED_MODELS = "gpt-4o"
"""How the names of models begin that are billed by the token; others are billed by the second."""
LEAST_BYTES = 500
"""Of a second of sound: speech in Opus or AMR at 4.75 kbit/s, the least that is in use, has about 600."""
LIKELY_BYTES = 4_000
"""Of a second of compressed speech: 32 kbit/s."""
TOKENS_A_SECOND = 10
"""OpenAI, "Audio"."""
_SUBTITLE = re.compile(r"--> *(?:(\d+):)?(\d\d):(\d\d)[.,](\d{3})")


class OpenAITranscription(OpenAIVoice):
    """See the module's docstring. ``operation``: transcription or translation."""

    __slots__ = ("operation",)
    metered = True

    def __init__(self, operation: str) -> None:
        self.operation = operation

    def ask(self, body: bytes) -> Ask:
        """A form; the size of its file bounds the length of the sound."""
        root, fault = read_request(body)
        size = sum(root["files"])
        return asked(
            self.operation,
            body,
            root,
            fault,
            text_bytes=len(body) - size,
            seconds=-(-size // LEAST_BYTES),
            likely_seconds=-(-size // LIKELY_BYTES),
        )

    def read(self, document: bytes, reading: Reading) -> None:
        """JSON, an event, or plain text."""
        root, fault = parse(document)
        if fault:
            add_text(reading, document.decode("utf-8", "replace"))
            reading.finished = True
            return
        kind = root.get("type")
        note_model(reading, root)
        if kind != "transcript.text.done":  # it repeats the deltas
            add_text(reading, root.get("text") or root.get("delta"))
        if type(root.get("usage")) is dict:
            reading.usage = root["usage"]
        elif type(root.get("duration")) in (int, float):
            reading.usage = {"duration": root["duration"]}
        reading.finished = reading.finished or kind == "transcript.text.done" or (kind is None and "text" in root)

    def usage(self, raw: Json) -> Usage | None:
        """Tokens, or seconds to the nearest one."""
        read, written = count(raw.get("input_tokens")), count(raw.get("output_tokens"))
        if read is None and written is None:
            seconds = _whole(raw.get("seconds", raw.get("duration")))
            return None if seconds is None else Usage(seconds=seconds)
        sound = count(as_object(raw.get("input_token_details")).get("audio_tokens"))
        heard = min(read or 0, sound if sound is not None else read or 0)
        return Usage(input=(read or 0) - heard, audio_in=heard, output=written or 0)

    def unsaid(self, ask: Ask, reading: Reading) -> dict[str, int] | None:
        """The length of the sound, or the tokens that it comes to."""
        if reading.usage is not None:
            return None
        seconds = _last_subtitle("".join(reading.text)) or ask.likely_seconds
        if ask.model.lower().rpartition("/")[2].startswith(COUNTED_MODELS):
            return {"audio_in": seconds * TOKENS_A_SECOND}
        return {"seconds": seconds, "input": 0, "output": 0}

    def prompt(self, body: bytes) -> Iterator[str]:
        """The hint that may come with the sound."""
        prompt = read_request(body)[0].get("prompt")
        if type(prompt) is str and prompt:
            yield prompt

    def framing(self, body: bytes) -> int:
        """None."""
        return 0


def _whole(seconds: object) -> int | None:
    """To the nearest second, as OpenAI bills whisper; never 0 for some sound."""
    if type(seconds) is int:
        return count(seconds)
    if type(seconds) is not float or not 0 <= seconds < 1e9:
        return None
    return max(1, math.floor(seconds + 0.5)) if seconds else 0


def _last_subtitle(text: str) -> int:
    """Seconds until the last subtitle (SRT or WebVTT) ends, rounded up; 0 when the text has none."""
    at = text.rfind("-->")
    match = _SUBTITLE.match(text, at) if at >= 0 else None
    if match is None:
        return 0
    hours, minutes, seconds, milli = (int(part or 0) for part in match.groups())
    return min(hours, 10**5) * 3600 + minutes * 60 + seconds + (milli > 0)
