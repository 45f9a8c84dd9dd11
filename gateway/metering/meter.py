"""Who counts: the provider, else we, else nobody and it is estimated. The answer is a usage, with its source.

Quiet: a pure function of what the tap read and what the request said. Laws: real zeros of a provider stay zeros; what a
provider billed is never guessed at as nothing, so a client that hangs up in mid-stream is charged the prompt and what
was delivered; a failed call is charged nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.call import Metered
from gateway.dialects.values import hidden_fault
from gateway.metering.encodings import encoding_for
from pricing.usage import Usage

if TYPE_CHECKING:
    from gateway.call import Ask
    from gateway.dialects import Dialect, Reading, Work
    from gateway.metering.encodings import Fit
    from gateway.metering.tokens import Counter

BYTES_PER_TOKEN = 4
"""The declared estimate where nothing can be counted: English text has 4 to 5 bytes a token, JSON around it has more."""
DEFERRED_TOKENS = 4_096
"""The declared estimate for an answer that is fetched later (``background`` responses) and has no bound of its own."""


def meter(
    dialect: Dialect,
    ask: Ask,
    reading: Reading,
    body: bytes | None,
    *,
    response_bytes: int,
    answered: bool,
    counter: Counter,
) -> Metered:
    """What was used. ``answered``: the upstream said 2xx; ``body``: the request as received, None when it was not kept."""
    if not (answered and dialect.metered):
        return Metered(Usage())
    reported = _reported(dialect, reading)
    if reported is not None and reading.finished:
        return _metered(reported, "provider", "usage", ask, reading)
    if reported is None:
        ask = _looked_through(ask, body)
    fit = encoding_for(reading.model or ask.model)
    told = reported or Usage(input=_count_input(dialect, ask, body, fit, counter))
    if _is_deferred(ask, reading):
        written, source = _bound(ask, DEFERRED_TOKENS), "estimated"
    elif _is_read(reading):
        written, source = _count_output(reading, fit, counter), "counted"
    else:
        written, source = _estimate_output(ask, response_bytes), "estimated"
    if reported is None and not _is_readable(ask, body):
        source = "estimated"
    usage = replace(told, output=max(told.output, written - told.reasoning))
    unsaid = dialect.unsaid(ask, reading)
    if unsaid is not None:
        source = "counted" if "characters" in unsaid and _is_readable(ask, body) else "estimated"
        return _metered(replace(usage, **unsaid), source, "units", ask, reading)
    metered = _metered(usage, source, _method(fit) if source == "counted" else "bytes", ask, reading)
    return replace(metered, awaits=reading.id) if _is_deferred(ask, reading) else metered


def compare(
    dialect: Dialect, ask: Ask, reading: Reading, body: bytes, usage: Usage, counter: Counter
) -> dict[str, int]:
    """What we would have counted of what the provider metered: ``input``, ``output``, each only where all of it is text.

    Nothing while nobody had to count in that vocabulary: who never counts need not know how well, and it takes 80 MB.
    """
    fit = encoding_for(reading.model or ask.model)
    found: dict[str, int] = {}
    if not counter.is_ready(fit.encoding):
        return found
    ask = _looked_through(ask, body)
    if _is_readable(ask, body) and not (ask.open_input or ask.extra_tokens or usage.audio_in or usage.image_in):
        found["input"] = _count_input(dialect, ask, body, fit, counter)
    if reading.text and usage.output and not (usage.reasoning or usage.audio_out or usage.image_out):
        found["output"] = _count_output(reading, fit, counter)
    return found


def meter_work(dialect: Dialect, work: Work) -> Metered | None:
    """The same for work that an answer tells of; None when its usage cannot be read."""
    usage = dialect.usage(work.usage)
    if usage is None:
        return None
    return Metered(usage, "provider", "usage", work.model, work.service_tier, work.usage, work.largest_input)


def _reported(dialect: Dialect, reading: Reading) -> Usage | None:
    """What the provider says, so far: in a stream that was cut, the input is right and the output is only begun."""
    usage = None if reading.usage is None else dialect.usage(reading.usage)
    if usage is not None and reading.searches:
        return replace(usage, searches=usage.searches + reading.searches)
    return usage


def _is_read(reading: Reading) -> bool:
    """Whether the answer could be read at all: then what it holds can be counted, even if that is nothing yet."""
    return bool(reading.finished or reading.model or reading.text_chars or reading.usage is not None)


def _is_deferred(ask: Ask, reading: Reading) -> bool:
    """An answer that is no stream, named its model and is not whole: it will be written when nobody is connected."""
    return bool(reading.model and not (ask.stream or reading.finished or reading.text_chars or reading.usage))


def _looked_through(ask: Ask, body: bytes | None) -> Ask:
    """With the fault that was passed over when the request came: what is to be counted has to be read whole."""
    fault = hidden_fault(body) if body is not None and not ask.fault else ""
    return replace(ask, fault=fault) if fault else ask


def _is_readable(ask: Ask, body: bytes | None) -> bool:
    return body is not None and not ask.fault


def _count_input(dialect: Dialect, ask: Ask, body: bytes | None, fit: Fit, counter: Counter) -> int:
    """Tokens of the prompt with its framing; from bytes when there is no body to look into."""
    if body is None or ask.fault:
        return -(-ask.input_bytes // BYTES_PER_TOKEN)
    return _scale(counter.count_all(dialect.prompt(body), fit.encoding), fit) + dialect.framing(body)


def _count_output(reading: Reading, fit: Fit, counter: Counter) -> int:
    """Tokens of what the model wrote; beyond what the reading kept, in proportion."""
    text = "".join(reading.text)
    if not text:
        return 0
    tokens = counter.count(text, fit.encoding)
    return _scale(-(-tokens * max(reading.text_chars, len(text)) // len(text)), fit)


def _estimate_output(ask: Ask, response_bytes: int) -> int:
    """From the size of the answer, but no more than the caller's own bound allows."""
    tokens = -(-response_bytes // BYTES_PER_TOKEN)
    return min(tokens, _bound(ask, tokens))


def _bound(ask: Ask, otherwise: int) -> int:
    """The most that the caller lets the model write, in all choices together."""
    return otherwise if ask.max_output_tokens is None else ask.max_output_tokens * ask.choices


def _scale(tokens: int, fit: Fit) -> int:
    """Rounded up: it stands in for a bill."""
    return -(-tokens * fit.percent // 100)


def _method(fit: Fit) -> str:
    """``o200k_base``, or ``o200k_base*125%`` where the count was scaled for want of the model's own vocabulary."""
    return fit.encoding if fit.percent == 100 else f"{fit.encoding}*{fit.percent}%"


def _metered(usage: Usage, source: str, method: str, ask: Ask, reading: Reading) -> Metered:
    """The tier really used wins over the one asked for."""
    tier = reading.service_tier or ask.service_tier
    return Metered(usage, source, method, reading.model, tier, reading.usage, reading.largest_input)
