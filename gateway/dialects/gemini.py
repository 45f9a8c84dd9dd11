"""The dialect of Gemini's ``generateContent``, streamed or not, on the Gemini API and on Vertex AI.

Model and operation stand in the path, not in the body (``addressed.py`` reads them). Owns what is special in its counting:
cached tokens are inside ``promptTokenCount``, thoughts are outside ``candidatesTokenCount``, what tools brought in stands in
a count of its own, and chunks repeat the usage: the last one wins. Without ``alt=sse`` a stream is one JSON array.

Source: ai.google.dev/api/generate-content, "UsageMetadata"; cloud.google.com/vertex-ai, "GenerateContentResponse".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from gateway.dialects import pictures, prompts
from gateway.dialects.beyond import TOOLS_MOST_TOKENS, Beyond
from gateway.dialects.skim import length
from gateway.dialects.values import (
    Json,
    add_text,
    as_list,
    as_object,
    asked,
    choices,
    count,
    name,
    output_bound,
    parse,
    parse_request,
)
from gateway.dialects.voices import GeminiVoice
from pricing.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.call import Ask
    from gateway.dialects import Reading

TOTALS = ("promptTokenCount", "candidatesTokenCount", "responseTokenCount", "totalTokenCount")
MEDIA_TOKENS = 258
"""An image up to 384 pixels, or one tile of a larger one (ai.google.dev/gemini-api/docs/tokens). Sizes are not looked at."""
OWN_TOOLS = frozenset(("functionDeclarations", "function_declarations"))
TIERS = {"ON_DEMAND": "", "ON_DEMAND_PRIORITY": "priority", "ON_DEMAND_FLEX": "flex", "PROVISIONED_THROUGHPUT": ""}
"""Vertex's ``trafficType`` in the words of the price book."""


class GeminiGenerate(GeminiVoice):
    """See the module's docstring."""

    __slots__ = ()
    operation = "generate_content"
    metered = True

    def ask(self, body: bytes) -> Ask:
        """Field names come in camel case or, as protobuf's own JSON allows, in snake case."""
        root, fault = parse_request(body)
        config = as_object(_either(root, "generationConfig", "generation_config"))
        most = output_bound(_either(config, "maxOutputTokens", "max_output_tokens"))
        answers = choices(_either(config, "candidateCount", "candidate_count"))
        return asked(self.operation, body, root, fault, _beyond(root), choices=answers, max_output_tokens=most)

    def read(self, document: bytes, reading: Reading) -> None:
        """One event, the whole body, or the array that a stream without ``alt=sse`` is."""
        try:
            root = orjson.loads(document)
        except ValueError:
            return
        for chunk in root if type(root) is list else [root]:
            if type(chunk) is dict:
                _read_chunk(chunk, reading)

    def usage(self, raw: Json) -> Usage | None:
        """Cached tokens leave the prompt's count, media leave the text's, thoughts are added to the output."""
        if all(count(raw.get(key)) is None for key in TOTALS):
            return None
        prompt = (count(raw.get("promptTokenCount")) or 0) + (count(raw.get("toolUsePromptTokenCount")) or 0)
        cached = min(count(raw.get("cachedContentTokenCount")) or 0, prompt)
        fresh = prompt - cached
        audio, image = _media(raw, "promptTokensDetails"), _media(raw, "promptTokensDetails", "IMAGE")
        kept_audio = min(audio, cached, _media(raw, "cacheTokensDetails"))
        kept_image = min(image, cached - kept_audio, _media(raw, "cacheTokensDetails", "IMAGE"))
        audio, image, cached = audio - kept_audio, image - kept_image, cached - kept_audio - kept_image
        audio_in = min(audio, fresh)
        image_in = min(image, fresh - audio_in)
        thoughts, written = count(raw.get("thoughtsTokenCount")) or 0, _written(raw, prompt)
        audio_out = min(_media(raw, "candidatesTokensDetails", "AUDIO", "responseTokensDetails"), written)
        image_out = min(_media(raw, "candidatesTokensDetails", "IMAGE", "responseTokensDetails"), written - audio_out)
        return Usage(
            input=fresh - audio_in - image_in, cached_input=cached, cached_audio=kept_audio, cached_image=kept_image,
            audio_in=audio_in, image_in=image_in,
            output=written - audio_out - image_out, reasoning=thoughts, audio_out=audio_out, image_out=image_out,
        )  # fmt: skip

    def prompt(self, body: bytes) -> Iterator[str]:
        """Contents with calls and answers of functions, the system's instruction, tools and the answer's schema."""
        root, _ = parse(body)
        config = as_object(_either(root, "generationConfig", "generation_config"))
        return prompts.together(
            prompts.texts(_either(root, "systemInstruction", "system_instruction")),
            prompts.texts(_without_media(root.get("contents"))),
            prompts.definitions(root.get("tools")),
            prompts.definitions(_either(config, "responseSchema", "response_schema")),
        )

    def framing(self, body: bytes) -> int:
        """What each image counts for, a flat number for a sound or file."""
        root, _ = parse(body)
        return sum(_media_tokens(part) for part in _parts(root.get("contents")) if _is_media(part))


def _beyond(root: Json) -> Beyond:
    beyond = Beyond(open=bool(_either(root, "cachedContent", "cached_content")))
    for part in _parts(root.get("contents")):
        media = as_object(_either(part, "inlineData", "inline_data")) if _is_media(part) else {}
        kind, payload = name(_either(media, "mimeType", "mime_type")), media.get("data")
        size = length(payload) if type(payload) is str else 0
        if kind.startswith("image/"):
            beyond.image(size)
        elif kind.startswith("audio/"):
            beyond.sound(size)
        elif _is_media(part):
            beyond.open = True
            beyond.bytes += size
    tools = [as_object(tool) for tool in as_list(root.get("tools"))]
    beyond.most += TOOLS_MOST_TOKENS if tools else 0
    for tool in tools:
        for kind in tool.keys() - OWN_TOOLS:
            beyond.hosted(kind)
    return beyond


def _read_chunk(chunk: Json, reading: Reading) -> None:
    inner = chunk.get("response")  # what Vertex's batches wrap it in
    root = inner if type(inner) is dict and "candidates" not in chunk else chunk
    reading.model = reading.model or name(root.get("modelVersion"))
    usage = root.get("usageMetadata")
    if type(usage) is dict:
        reading.usage = {**(reading.usage or {}), **usage}
        tier = TIERS.get(name(usage.get("trafficType")), name(usage.get("serviceTier")).lower())
        reading.service_tier = tier or reading.service_tier
    answers = [answer for answer in as_list(root.get("candidates")) if type(answer) is dict]
    for answer in answers:
        for part in as_list(as_object(answer.get("content")).get("parts")):
            _add_part(reading, part)
        queries = as_list(as_object(answer.get("groundingMetadata")).get("webSearchQueries"))
        if (
            queries
        ):  # Gemini 3 bills each query, those before it bill the grounded prompt ("Grounding with Google Search")
            reading.searches = max(reading.searches, len(queries) if reading.model.startswith("gemini-3") else 1)
    if any(answer.get("finishReason") for answer in answers) or as_object(root.get("promptFeedback")).get(
        "blockReason"
    ):
        reading.finished = True


def _add_part(reading: Reading, part: Any) -> None:
    """What the model wrote: text, thoughts, the calls of functions, code."""
    if type(part) is not dict:
        return
    add_text(reading, part.get("text"))
    call = as_object(part.get("functionCall"))
    add_text(reading, call.get("name"))
    if call.get("args"):
        for text in prompts.definitions(call["args"]):
            add_text(reading, text)
    add_text(reading, as_object(part.get("executableCode")).get("code"))


def _written(raw: Json, prompt: int) -> int:
    """Candidates; where only the total is told, what it holds beyond prompt and thoughts."""
    for key in ("candidatesTokenCount", "responseTokenCount"):
        told = count(raw.get(key))
        if told is not None:
            return told
    return max(0, (count(raw.get("totalTokenCount")) or 0) - prompt - (count(raw.get("thoughtsTokenCount")) or 0))


def _media(raw: Json, key: str, modality: str = "AUDIO", otherwise: str = "") -> int:
    """Tokens of one modality in a list of ``{modality, tokenCount}``."""
    items = as_list(raw.get(key)) or as_list(raw.get(otherwise))
    found = (item for item in items if type(item) is dict and item.get("modality") == modality)
    return sum(count(item.get("tokenCount")) or 0 for item in found)


def _either(root: Json, camel: str, snake: str) -> Any:
    return root.get(camel, root.get(snake))


def _parts(contents: Any) -> Iterator[Any]:
    for content in contents if type(contents) is list else [contents]:
        yield from as_list(as_object(content).get("parts"))


def _media_tokens(part: Any) -> int:
    data = as_object(_either(as_object(part), "inlineData", "inline_data")).get("data")
    picture = pictures.read(data[: pictures.LOOKED_AT]) if type(data) is str else None
    return MEDIA_TOKENS if picture is None else pictures.gemini_rule(picture)


def _is_media(part: Any) -> bool:
    return type(part) is dict and any(key in part for key in ("inlineData", "inline_data", "fileData", "file_data"))


def _without_media(contents: Any) -> list[Any]:
    return [part for part in _parts(contents) if not _is_media(part)]
