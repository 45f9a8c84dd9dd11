"""Who counts, and what it comes to when nobody can."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

import gateway.metering
from gateway.call import Metered
from gateway.dialects import Dialect, Reading
from gateway.dialects.anthropic_messages import AnthropicMessages
from gateway.dialects.opaque import OpaqueOpenAI
from gateway.dialects.openai_chat import OpenAIChat
from gateway.dialects.openai_embeddings import OpenAIEmbeddings
from gateway.dialects.openai_responses import OpenAIResponses
from gateway.metering.meter import meter
from gateway.metering.tokens import Counter
from pricing.usage import Usage

VOCAB = Path(gateway.metering.__file__).parent / "vocab"
COUNTER = Counter(lambda name: (VOCAB / f"{name}.xz").read_bytes())
REQUEST = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello world"}]}
USAGE = {"prompt_tokens": 9, "completion_tokens": 4}


def run(
    reading: Reading,
    *,
    dialect: Dialect | None = None,
    body: bytes | None = None,
    answered: bool = True,
    size: int = 400,
    **fields: Any,
) -> Metered:
    dialect = dialect or OpenAIChat()
    sent = orjson.dumps(REQUEST | fields)
    ask = dialect.ask(sent)
    return meter(dialect, ask, reading, body or sent, response_bytes=size, answered=answered, counter=COUNTER)


def test_the_provider_is_believed() -> None:
    """Its own numbers, its own object, the tier it really used."""
    reading = Reading(
        model="gpt-4o-2024-08-06", service_tier="default", usage=USAGE, text=["x" * 99], text_chars=99, finished=True
    )
    assert run(reading, service_tier="flex") == Metered(
        Usage(input=9, output=4), "provider", "usage", "gpt-4o-2024-08-06", "default", USAGE
    )


def test_real_zeros_stay_zeros() -> None:
    """Replacing them by an estimate is over-billing."""
    reading = Reading(usage={"prompt_tokens": 0, "completion_tokens": 0}, text=["hello"], text_chars=5, finished=True)
    assert (run(reading).usage, run(reading).source) == (Usage(), "provider")


def test_without_usage_prompt_and_answer_are_counted() -> None:
    """2 tokens and their frame of 6, and 2 written."""
    metered = run(Reading(model="gpt-4o", text=["hello", " world"], text_chars=11, finished=True), service_tier="flex")
    assert (metered.usage, metered.source, metered.method) == (Usage(input=9, output=2), "counted", "o200k_base")
    assert metered.service_tier == "flex"


def test_a_usage_object_without_counts_is_no_usage() -> None:
    """Its presence does not make the call free."""
    metered = run(Reading(usage={"prompt_tokens": None}, text=["hello"], text_chars=5, finished=True))
    assert (metered.usage, metered.source) == (Usage(input=9, output=1), "counted")


def test_usage_of_a_cut_stream_is_the_input_and_the_output_is_counted() -> None:
    """Anthropic says 1 at the start; what was delivered is more, and what it said may be more still."""
    begun = {"input_tokens": 25, "cache_read_input_tokens": 7, "output_tokens": 1}
    reading = Reading(model="gpt-4o", usage=begun, text=["hello world"], text_chars=11)
    metered = run(reading, dialect=AnthropicMessages())
    assert (metered.usage, metered.source) == (Usage(input=25, cached_input=7, output=2), "counted")
    reading.usage = begun | {"output_tokens": 50}
    assert run(reading, dialect=AnthropicMessages()).usage.output == 50


def test_a_model_without_its_own_vocabulary_is_scaled_and_says_so() -> None:
    """2 tokens x 1.25, rounded up, on each side."""
    metered = run(Reading(model="mystery", text=["hello world"], text_chars=11, finished=True))
    assert (metered.usage, metered.method) == (Usage(input=3 + 7, output=3), "o200k_base*125%")


def test_text_that_was_not_kept_counts_in_proportion() -> None:
    """The reading kept a third of it."""
    assert run(Reading(model="gpt-4o", text=["hello world"], text_chars=33), stream=True).usage.output == 6


def test_an_unreadable_answer_is_estimated_from_its_size() -> None:
    """Within the bound that the caller set; a damaged or foreign coding is no discount."""
    metered = run(Reading())
    assert (metered.usage, metered.source, metered.method) == (Usage(input=9, output=100), "estimated", "bytes")
    assert run(Reading(), max_tokens=30, n=2).usage.output == 60
    assert run(Reading(), size=0).usage == Usage(input=9)


def test_an_unreadable_request_is_estimated_from_its_size() -> None:
    """The answer is counted all the same."""
    dialect, body = OpenAIChat(), b"{" * 41
    reading = Reading(model="gpt-4o", text=["hello"], text_chars=5, finished=True)
    metered = meter(dialect, dialect.ask(body), reading, body, response_bytes=9, answered=True, counter=COUNTER)
    assert (metered.usage, metered.source) == (Usage(input=11, output=1), "estimated")
    kept_nothing = meter(dialect, dialect.ask(body), reading, None, response_bytes=9, answered=True, counter=COUNTER)
    assert kept_nothing.usage == metered.usage


def test_a_long_request_whose_text_is_no_json_is_estimated_from_its_size() -> None:
    """What was passed over when it came has to be read to be counted."""
    sent = orjson.dumps(REQUEST | {"messages": [{"role": "user", "content": "a" * 40_000}]}).replace(b"aaa", b"a\na", 1)
    ask = OpenAIChat().ask(sent)
    assert not ask.fault
    reading = Reading(model="gpt-4o", text=["hello world"], text_chars=11, finished=True)
    found = meter(OpenAIChat(), ask, reading, sent, response_bytes=400, answered=True, counter=COUNTER)
    assert (found.usage, found.source) == (Usage(input=-(-len(sent) // 4), output=2), "estimated")


def test_an_answer_that_is_written_later_is_estimated_at_its_bound() -> None:
    """A background response is fetched where nothing is metered: it must not be free there and here."""
    dialect = OpenAIResponses()
    for bound, output in ((b"", 4096), (b',"max_output_tokens":70', 70)):
        body = b'{"model":"gpt-5.2","input":"hello world","background":true%b}' % bound
        metered = meter(
            dialect,
            dialect.ask(body),
            Reading(model="gpt-5.2"),
            body,
            response_bytes=300,
            answered=True,
            counter=COUNTER,
        )
        assert (metered.usage, metered.source, metered.method) == (Usage(input=9, output=output), "estimated", "bytes")


def test_embeddings_never_write() -> None:
    """However large and unreadable the answer is."""
    dialect, body = OpenAIEmbeddings(), b'{"model":"text-embedding-3-small","input":["hello world",[1]]}'
    metered = meter(dialect, dialect.ask(body), Reading(), body, response_bytes=10**8, answered=True, counter=COUNTER)
    assert (metered.usage, metered.source) == (Usage(input=3), "estimated")


def test_a_failed_call_and_an_opaque_one_cost_nothing() -> None:
    """No source: nobody counted, because nothing is billed."""
    reading = Reading(usage=USAGE, finished=True)
    assert run(reading, answered=False) == Metered(Usage())
    assert run(reading, dialect=OpaqueOpenAI()) == Metered(Usage())
