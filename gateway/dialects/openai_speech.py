"""The dialect of ``audio/speech``: text in, sound out.

The sound itself tells nothing. What is spoken by a ``tts`` model is billed by the character, which the request tells exactly;
``gpt-4o`` models are billed by the token, which only their event streams tell: otherwise it is the declared number for a
character. Source: OpenAI API reference, "Create speech"; pricing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.dialects.values import Json, asked, count, parse
from gateway.dialects.voices import OpenAIVoice
from pricing.rows import SPEECH_TOKENS
from pricing.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.call import Ask
    from gateway.dialects import Reading

MOST_TOKENS = 21
"""For a character: a whole second of speech, 20.8 tokens. Usual is a fourteenth of it."""
LEAST_BOUND = 4_096
COUNTED_MODELS = "gpt-4o"
"""How the names of models begin that are billed by the token."""


class OpenAISpeech(OpenAIVoice):
    """See the module's docstring."""

    __slots__ = ()
    operation = "speech"
    metered = True

    def ask(self, body: bytes) -> Ask:
        """How much is to be said bounds how long it takes."""
        root, fault = parse(body)
        said = root.get("input")
        characters = len(said) if type(said) is str else 0
        return asked(
            self.operation,
            body,
            root,
            fault,
            characters=characters,
            max_output_tokens=max(LEAST_BOUND, characters * MOST_TOKENS),
        )

    def read(self, document: bytes, reading: Reading) -> None:
        """The last event of a stream; the others are sound."""
        if b'"usage"' not in document:
            return
        usage = parse(document)[0].get("usage")
        if type(usage) is dict:
            reading.usage = usage
            reading.finished = True

    def usage(self, raw: Json) -> Usage | None:
        """Text in, sound out."""
        read, written = count(raw.get("input_tokens")), count(raw.get("output_tokens"))
        if read is None and written is None:
            return None
        return Usage(input=read or 0, audio_out=written or 0)

    def unsaid(self, ask: Ask, reading: Reading) -> dict[str, int] | None:
        """Characters, or the tokens that they come to."""
        if reading.usage is not None:
            return None
        if ask.model.lower().rpartition("/")[2].startswith(COUNTED_MODELS):
            return {"audio_out": ask.characters * SPEECH_TOKENS, "output": 0}
        return {"characters": ask.characters, "input": 0, "output": 0}

    def prompt(self, body: bytes) -> Iterator[str]:
        """What is to be said, and how."""
        root, _ = parse(body)
        yield from (text for key in ("input", "instructions") if type(text := root.get(key)) is str and text)

    def framing(self, body: bytes) -> int:
        """None."""
        return 0
