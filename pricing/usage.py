"""The units that providers bill, as one value whose fields never overlap.

Providers nest their counts differently (OpenAI's prompt tokens include cached ones, Anthropic's exclude them; OpenAI's
completion tokens include reasoning, Gemini's candidates exclude thoughts). A dialect takes that apart, so that here each
token is in exactly one field and the bill is the plain sum of field x rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from pricing.value import value


@value
class Usage:
    """Counts of one call; every field is a whole number of its unit (tokens unless the name says otherwise).

    ``input`` is uncached text input, ``output`` is visible output: cached, written, audio, image and reasoning tokens
    stand in their own fields and nowhere else.
    """

    input: int = 0
    cached_input: int = 0
    cached_audio: int = 0
    cached_image: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    audio_in: int = 0
    image_in: int = 0
    output: int = 0
    reasoning: int = 0
    audio_out: int = 0
    image_out: int = 0
    searches: int = 0
    seconds: int = 0
    """Of sound, where its length is billed and not its tokens."""
    characters: int = 0
    """Of text to be spoken, where they are billed and not tokens."""
    images: int = 0
    """Made, where nothing tells their tokens."""
    requests: int = 0
    """1 where the model's price has a part for the request itself."""

    @property
    def input_tokens(self) -> int:
        """Everything that was read: what a person means by "input tokens"."""
        kept = self.cached_input + self.cached_audio + self.cached_image + self.cache_write + self.cache_write_1h
        return self.input + kept + self.audio_in + self.image_in

    @property
    def output_tokens(self) -> int:
        """Everything that was written, reasoning included."""
        return self.output + self.reasoning + self.audio_out + self.image_out

    def counts(self) -> dict[str, int]:
        """The fields that are not zero, by name: the shape of records and of the admin API. Written out: a loop over all of them takes
        four times as long, and most are zero.
        """
        found = {}
        if self.input:
            found["input"] = self.input
        if self.cached_input:
            found["cached_input"] = self.cached_input
        if self.cached_audio:
            found["cached_audio"] = self.cached_audio
        if self.cached_image:
            found["cached_image"] = self.cached_image
        if self.cache_write:
            found["cache_write"] = self.cache_write
        if self.cache_write_1h:
            found["cache_write_1h"] = self.cache_write_1h
        if self.audio_in:
            found["audio_in"] = self.audio_in
        if self.image_in:
            found["image_in"] = self.image_in
        if self.output:
            found["output"] = self.output
        if self.reasoning:
            found["reasoning"] = self.reasoning
        if self.audio_out:
            found["audio_out"] = self.audio_out
        if self.image_out:
            found["image_out"] = self.image_out
        if self.searches:
            found["searches"] = self.searches
        if self.seconds:
            found["seconds"] = self.seconds
        if self.characters:
            found["characters"] = self.characters
        if self.images:
            found["images"] = self.images
        if self.requests:
            found["requests"] = self.requests
        return found


def usage_of(counts: Mapping[str, int]) -> Usage:
    """What ``counts`` wrote. Names that are no units are left out."""
    return Usage(**{unit: counts[unit] for unit in UNITS if unit in counts})


UNITS: tuple[str, ...] = tuple(field.name for field in fields(Usage))
