"""Answers that tell of work asked for in another call, and that nobody has billed yet: batches and background responses.

They cost nothing themselves. The work is billed once, whoever looks at it and however often: its key is the provider's own
id. Sources: OpenAI API reference, "The batch object" (``usage``), "Retrieve a model response" (``background``); Anthropic API
reference, "Retrieve Message Batch results".
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from gateway.dialects import Reading, Work
from gateway.dialects.anthropic_messages import AnthropicMessages, flattened, largest_input
from gateway.dialects.opaque import OpaqueAnthropic, OpaqueOpenAI
from gateway.dialects.openai_responses import LAST_STATES, OpenAIResponses
from gateway.dialects.values import Json, add_up, as_list, as_object, count, name, parse

if TYPE_CHECKING:
    from gateway.dialects import Dialect
    from pricing.usage import Usage

BATCH = "batch"
"""The operation of the work, and the service tier at which it is priced."""
BATCH_ENDS = frozenset(("completed", "expired", "cancelled", "failed"))
MAX_WORKS = 1000
"""Of one answer: a page of batches has at most 100, the results of one batch as many as it names models."""
LONG_CONTEXTS = (100_000, 200_000)
"""Input tokens of one message above which Anthropic has had other prices ("Pricing": Haiku 5.5; Sonnet 4.5)."""
_RETRIEVED = re.compile(r"/(responses|batches)/[\w.-]+$")
_RESULTS = re.compile(r"/messages/batches/([\w.-]{1,200})/results$")


class OpenAIBatches(OpaqueOpenAI):
    """A batch, or a list of them."""

    __slots__ = ()
    follows = True

    def __init__(self) -> None:
        super().__init__("batches")

    def read(self, document: bytes, reading: Reading) -> None:
        """Those that have ended and say what was used."""
        root, _ = parse(document)
        for batch in as_list(root.get("data")) if root.get("object") == "list" else [root]:
            found = as_object(batch)
            if found.get("object") == "batch" and name(found.get("status")) in BATCH_ENDS:
                _note(reading, found, BATCH, BATCH, _mean_input(found))

    def usage(self, raw: Json) -> Usage | None:
        """As in responses."""
        return OpenAIResponses().usage(raw)


class OpenAIRetrieved(OpaqueOpenAI):
    """A response that was written in the background."""

    __slots__ = ()
    follows = True

    def __init__(self) -> None:
        super().__init__("retrieval")

    def read(self, document: bytes, reading: Reading) -> None:
        """The response itself, or the event of a stream that holds it. One that was not written in the background has been
        billed by the call that asked for it.
        """
        root, _ = parse(document)
        response = as_object(root["response"]) if "response" in root else root
        if response.get("background") is True and name(response.get("status")) in LAST_STATES:
            _note(reading, response, "responses", name(response.get("service_tier")))


class AnthropicBatchResults(OpaqueAnthropic):
    """JSON lines, one for each message of a batch: summed up for each model, those of long context apart."""

    __slots__ = ("_batch",)
    follows = True
    lines = True

    def __init__(self, batch: str = "") -> None:
        super().__init__("batches")
        self._batch = batch

    def read(self, document: bytes, reading: Reading) -> None:
        """One line. Only what succeeded has usage."""
        message = as_object(as_object(parse(document)[0].get("result")).get("message"))
        model, usage = name(message.get("model")), message.get("usage")
        if type(usage) is not dict or not self._batch:
            return
        largest = largest_input(usage)
        above = max((step for step in LONG_CONTEXTS if largest > step), default=0)
        key = f"{self._batch}:{model}" + (f":>{above}" if above else "")
        before = reading.works.get(key)
        usage = flattened(usage)
        if before is not None:
            add_up(before.usage, usage)
            reading.works[key] = replace(before, largest_input=max(before.largest_input, largest))
        elif len(reading.works) < MAX_WORKS:
            reading.works[key] = Work(key, BATCH, model, usage, BATCH, largest)

    def usage(self, raw: Json) -> Usage | None:
        """As in messages."""
        return AnthropicMessages().usage(raw)


_BATCHES, _RESPONSE, _RESULTS_OF_ANY = OpenAIBatches(), OpenAIRetrieved(), AnthropicBatchResults()


@lru_cache(maxsize=256)
def by_retrieval(path: str) -> Dialect | None:
    """The dialect of a GET, by the end of its path; None for what tells of no work."""
    results = _RESULTS.search(path)
    if results is not None:
        return AnthropicBatchResults(results[1])
    if path.endswith("/batches") and not path.endswith("/messages/batches"):
        return _BATCHES
    match = _RETRIEVED.search(path)
    if match is None or "/messages/" in path:
        return None
    return _BATCHES if match[1] == "batches" else _RESPONSE


def of_batch(protocol: str) -> Dialect:
    """Whoever reads the usage of a batch in a record."""
    return _RESULTS_OF_ANY if protocol == "anthropic" else _BATCHES


def _mean_input(batch: Json) -> int:
    """What one request of a batch has read on the average: nothing tells more of them. At least 1, since it is a sum."""
    done = count(as_object(batch.get("request_counts")).get("completed")) or 1
    return max(1, (count(as_object(batch.get("usage")).get("input_tokens")) or 0) // done)


def _note(reading: Reading, found: Json, operation: str, tier: str, largest: int = 0) -> None:
    key, usage = name(found.get("id")), found.get("usage")
    if key and type(usage) is dict and len(reading.works) < MAX_WORKS:
        reading.works[key] = Work(key, operation, name(found.get("model")), usage, tier, largest)
