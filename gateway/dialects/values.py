"""JSON as strangers send it: the few questions that every dialect asks of a value whose type nobody promised.

Owns the clamps. Knows no protocol and no field name. Law: nothing here raises on any input; what makes no sense is left
out, and where leaving out would count too little it is clamped instead.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from gateway.call import Ask
from gateway.dialects import Reading
from gateway.dialects.skim import skim

if TYPE_CHECKING:
    from gateway.dialects.beyond import Beyond

MAX_NAME_CHARS = 256
MAX_TEXT_CHARS = 2_000_000
"""What a Reading keeps of an answer: about 500 000 tokens, more than any model writes in one call."""
MAX_OUTPUT_TOKENS = 10_000_000
MAX_CHOICES = 10_000
MAX_USAGE = 10**9
"""Clamps far above anything real, so that bound x choices x rate stays exact in every store (below 2^53)."""
MAX_SUM = 1 << 62
"""Of counts as they came, which JSON writers end at 64 bits."""

Json = dict[str, Any]


def parse(body: bytes) -> tuple[Json, str]:
    """The JSON object of a body and "", or an empty object and the fault. NaN and nesting over 1024 levels are faults."""
    try:
        root = orjson.loads(body)
    except ValueError:
        return {}, "the body is not valid JSON"
    if type(root) is not dict:
        return {}, "the body is not a JSON object"
    return root, ""


def parse_request(body: bytes) -> tuple[Json, str]:
    """The same of a request, with stand-ins for its long texts (``skim``): what they hold is not looked at."""
    return parse(skim(body))


def hidden_fault(body: bytes) -> str:
    """The fault that ``parse_request`` does not see, where it left texts out."""
    return parse(body)[1] if skim(body) is not body and body.lstrip()[:1] == b"{" else ""


def asked(
    operation: str,
    body: bytes,
    root: Json,
    fault: str,
    beyond: Beyond | None = None,
    *,
    choices: int = 1,
    max_output_tokens: int | None = None,
    service_tier: str = "",
    text_bytes: int | None = None,
    **more: Any,
) -> Ask:
    """An Ask with what all dialects call by the same name; ``more`` is what they do not, ``beyond`` what no byte bounds,
    ``text_bytes`` the size of the body without its files.
    """
    ask = Ask(
        operation,
        True,
        name(root.get("model")),
        root.get("stream") is True,
        choices,
        max_output_tokens,
        len(body) if text_bytes is None else text_bytes,
        service_tier or name(root.get("service_tier")),
        fault,
    )
    if beyond is not None and (beyond.most or beyond.likely or beyond.bytes or beyond.open or beyond.searches):
        more |= {
            "media_bytes": beyond.bytes,
            "extra_tokens": beyond.most,
            "likely_extra_tokens": beyond.likely,
            "open_input": beyond.open,
            "searches": beyond.searches,
        }
    return replace(ask, **more) if more else ask


def as_object(value: Any) -> Json:
    """The value when it is an object, else an empty one."""
    return value if type(value) is dict else {}


def as_list(value: Any) -> list[Any]:
    """The value when it is an array, else an empty one."""
    return value if type(value) is list else []


def name(value: Any) -> str:
    """A name safe in a log line or a label: cut to 256 characters, non-printable ones replaced; "" if it is no string."""
    if type(value) is not str:
        return ""
    cut = value if len(value) <= MAX_NAME_CHARS else value[:MAX_NAME_CHARS]
    if cut.isprintable():
        return cut
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in cut)


def output_bound(*values: Any) -> int | None:
    """The largest of the caller's own output bounds, clamped to 10^7; None when none of them is a whole number >= 0.

    The largest, because providers disagree on which field wins; anything odd is ignored, which leaves the model's maximum.
    """
    most = -1
    for value in values:
        if type(value) is int and value > most:
            most = value
    return min(most, MAX_OUTPUT_TOKENS) if most >= 0 else None


def choices(*values: Any) -> int:
    """How many answers may be billed: the largest of the numbers, 1 to 10^4.

    Floats and numeric strings are read too: lenient providers coerce them, and overlooking one would count too little.
    """
    most = 1
    for value in values:
        if type(value) is str and value.strip().isdecimal():
            value = _number(value)  # noqa: PLW2901 - the same number, read
        if type(value) in (int, float):
            most = max(most, int(min(value, MAX_CHOICES)))
    return most


def _number(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:  # more digits than Python reads
        return MAX_CHOICES


def count(value: Any) -> int | None:
    """A provider's count: whole and not negative, clamped to 10^9; None for anything else."""
    if type(value) is int:
        return value if 0 <= value <= MAX_USAGE else MAX_USAGE if value > 0 else None
    if type(value) is float and value.is_integer() and value >= 0:
        return min(int(value), MAX_USAGE)
    return None


def add_text(reading: Reading, text: Any) -> None:
    """Add what the model wrote; beyond 2 000 000 characters it is only counted."""
    if type(text) is not str or not text:
        return
    room, chars = MAX_TEXT_CHARS - reading.text_chars, len(text)
    reading.text_chars += chars
    reading.text_bytes += chars if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    if room >= chars:
        reading.text.append(text)
    elif room > 0:
        reading.text.append(text[:room])


def note_model(reading: Reading, root: Json) -> None:
    """Remember the model that answers (the first name given) and the tier really used (the last)."""
    if not reading.model:
        reading.model = name(root.get("model"))
    tier = root.get("service_tier")
    if tier is not None and tier != reading.service_tier:
        reading.service_tier = name(tier)


def add_up(total: Json, more: Json) -> None:
    """Add the counts of one usage object to those of another of the same shape, in place; words are replaced."""
    for key, value in more.items():
        before = total.get(key)
        if type(value) is dict and type(before) is dict:
            add_up(before, value)
        elif type(value) in (int, float) and type(before) in (int, float):
            total[key] = min(before + value, MAX_SUM)
        elif value is not None:
            total[key] = value
