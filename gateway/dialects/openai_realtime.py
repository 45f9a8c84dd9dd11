"""The dialect of realtime sessions: events over a WebSocket, each response with a usage of its own.

The bill of a session is the sum over its ``response.done`` events. A response that is cut is estimated: what it had said, and
once more what the last one had read. What is heard may be written down by another model, whose usage comes with each text;
that is work with a bill of its own. Source: OpenAI API reference, "Realtime server events"; "Managing costs".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gateway.call import Ask
from gateway.dialects import Work
from gateway.dialects.openai_usage import part
from gateway.dialects.values import Json, add_text, add_up, as_object, count, name, parse
from gateway.dialects.voices import OpenAIVoice
from pricing.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.dialects import Reading

BYTES_PER_TOKEN = 3_200
"""Of sound in base64: 20 tokens a second (one for 50 ms) of 24 kHz 16-bit PCM, 64,000 characters ("Managing costs")."""
_TYPE = re.compile(rb'"type"\s*:\s*"([a-z_.]+)"')
SOUND = frozenset((b"response.audio.delta", b"response.output_audio.delta"))
SKIPPED = frozenset((b"conversation.item.created", b"conversation.item.added", b"conversation.item.done"))
"""Events of a session that can be large and tell nothing of usage."""


class OpenAIRealtime(OpenAIVoice):
    """See the module's docstring."""

    __slots__ = ()
    operation = "realtime"
    metered = True
    follows = True

    def ask(self, body: bytes) -> Ask:
        """Nothing is asked in the handshake, so nothing bounds the session."""
        return Ask(operation=self.operation, metered=False)

    def read(self, document: bytes, reading: Reading) -> None:
        """One event. Sound is only measured."""
        found = _TYPE.search(document, 0, 300)
        kind = found[1] if found is not None else b""
        if kind in SOUND:
            reading.sound_bytes += len(document)
        elif kind not in SKIPPED:
            self._read_event(parse(document)[0], reading)

    def _read_event(self, event: Json, reading: Reading) -> None:
        kind = name(event.get("type"))
        if kind.startswith("response."):
            self._read_response(kind, event, reading)
        elif kind in ("session.created", "session.updated"):
            _note_session(as_object(event.get("session")), reading)
        elif kind == "conversation.item.input_audio_transcription.completed":
            _note_transcript(event, reading)

    def _read_response(self, kind: str, event: Json, reading: Reading) -> None:
        if kind == "response.created":
            reading.finished = False
        elif kind == "response.done":
            usage = as_object(event.get("response")).get("usage")
            if type(usage) is dict:
                reading.last_input = count(usage.get("input_tokens")) or 0
                reading.largest_input = max(reading.largest_input, reading.last_input, 1)
                reading.usage = _sum(reading.usage, usage)
            reading.finished = True
            reading.text, reading.text_chars, reading.text_bytes, reading.sound_bytes = [], 0, 0, 0
        elif kind.endswith(".delta"):
            add_text(reading, event.get("delta"))

    def usage(self, raw: Json) -> Usage | None:
        """Input by kind, what came from a cache taken off each kind; output by kind."""
        read, written = count(raw.get("input_tokens")), count(raw.get("output_tokens"))
        if read is None and written is None:
            return None
        told_in, told_out = as_object(raw.get("input_token_details")), as_object(raw.get("output_token_details"))
        kept = as_object(told_in.get("cached_tokens_details"))
        cached, left = part(told_in.get("cached_tokens"), read or 0)
        kept_sound, cached = part(kept.get("audio_tokens"), cached)
        kept_image, cached = part(kept.get("image_tokens"), cached)
        sound, left = part((count(told_in.get("audio_tokens")) or 0) - kept_sound, left)
        image, left = part((count(told_in.get("image_tokens")) or 0) - kept_image, left)
        said = min(count(told_out.get("audio_tokens")) or 0, written or 0)
        return Usage(
            input=left,
            cached_input=cached,
            cached_audio=kept_sound,
            cached_image=kept_image,
            audio_in=sound,
            image_in=image,
            output=(written or 0) - said,
            audio_out=said,
        )

    def unsaid(self, ask: Ask, reading: Reading) -> dict[str, int]:
        """Of a session that ended in the middle of a response, or had none."""
        so_far = self.usage(reading.usage or {}) or Usage()
        begun = reading.text_chars or reading.sound_bytes
        return {
            **so_far.counts(),
            "input": so_far.input + (reading.last_input if begun else 0),
            "output": so_far.output + -(-reading.text_chars // 4),
            "audio_out": so_far.audio_out + -(-reading.sound_bytes // BYTES_PER_TOKEN),
        }

    def prompt(self, body: bytes) -> Iterable[str]:
        """What is said to the model passes the other way."""
        return ()

    def framing(self, body: bytes) -> int:
        """None."""
        return 0


def _note_session(session: Json, reading: Reading) -> None:
    reading.model = reading.model or name(session.get("model"))
    reading.id = reading.id or name(session.get("id"))
    heard = as_object(as_object(session.get("audio")).get("input")).get("transcription")
    heard = as_object(heard or session.get("input_audio_transcription"))
    reading.second_model = name(heard.get("model")) or reading.second_model


def _note_transcript(event: Json, reading: Reading) -> None:
    usage, model = event.get("usage"), reading.second_model
    if type(usage) is dict and reading.id:
        key = f"{reading.id}:{model}"
        before = reading.works.get(key)
        reading.works[key] = Work(key, "transcription", model, _sum(before.usage if before else None, usage), "", 1)


def _sum(total: Json | None, usage: Json) -> Json:
    if total is None:
        return usage
    add_up(total, usage)
    return total
