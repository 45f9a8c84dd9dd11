"""OpenAI's usage objects: where they stand in an answer with choices, and what they mean: totals that include their details
become fields that do not overlap.

Shared by the dialects of that family, which differ in two words only. Law: the fields of the result add up to the totals
that the provider said, however inconsistent its details are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from gateway.dialects.values import as_object, count, note_model
from pricing.usage import Usage

if TYPE_CHECKING:
    from gateway.dialects import Reading
    from gateway.dialects.values import Json

DONE = b"[DONE]"
NOTHING: Json = {}


def choices_of(document: bytes, reading: Reading) -> list[Any]:
    """The choices of a chunk or body, when its model and usage were noted. Usage without choices is the last chunk's."""
    if document == DONE:
        reading.finished = True
        return []
    try:
        root = orjson.loads(document)
    except ValueError:
        return []
    if type(root) is not dict:
        return []
    note_model(reading, root)
    usage = root.get("usage") or as_object(root.get("x_groq")).get("usage")  # Groq's streams have it there
    if type(usage) is dict:
        reading.usage = usage
    answers = root.get("choices")
    if type(answers) is list and answers:
        return answers
    if type(usage) is dict:
        reading.finished = True
    return []


def split(raw: Json, read_key: str, written_key: str) -> Usage | None:
    """The object as Usage; None when it holds neither total. ``{key}_details`` are subsets, clamped to their total."""
    read, written = count(raw.get(read_key)), count(raw.get(written_key))
    if read is None and written is None:
        return None
    fresh, left = read or 0, written or 0
    # xAI and Gemini's OpenAI form leave reasoning out of ``completion_tokens``, but bill it and add it to ``total_tokens``
    total, unseen = raw.get("total_tokens"), 0
    if total != fresh + left:
        unseen = max(0, (count(total) or 0) - fresh - left)
    reasoning, audio_out, image_out = unseen, 0, 0
    told = raw.get(f"{written_key}_details")
    if type(told) is dict:
        if wanted := told.get("reasoning_tokens"):
            reasoning = min(max(count(wanted) or 0, unseen), left + unseen)
        left += unseen - reasoning
        if wanted := told.get("audio_tokens"):
            audio_out, left = part(wanted, left)
        if wanted := told.get("image_tokens"):
            image_out, left = part(wanted, left)
    cached = write = audio_in = image_in = 0
    told = raw.get(f"{read_key}_details")
    told = told if type(told) is dict else NOTHING
    wanted = told.get("cached_tokens")  # OpenAI's field, else DeepSeek's, else Moonshot's (both beside the totals)
    if wanted is None and (wanted := raw.get("prompt_cache_hit_tokens")) is None:
        wanted = raw.get("cached_tokens")
    if wanted:  # cached ones first: they may be audio or images as well, and would be billed twice
        cached, fresh = part(wanted, fresh)
    if told:
        if wanted := told.get("cache_write_tokens"):
            write, fresh = part(wanted, fresh)
        if wanted := told.get("audio_tokens"):
            audio_in, fresh = part(wanted, fresh)
        if wanted := told.get("image_tokens"):
            image_in, fresh = part(wanted, fresh)
    return Usage(fresh, cached, 0, 0, write, 0, audio_in, image_in, left, reasoning, audio_out, image_out)


def part(wanted: Any, left: int) -> tuple[int, int]:
    """So much of what is left, and what then remains."""
    taken = min(count(wanted) or 0, left)
    return taken, left - taken
