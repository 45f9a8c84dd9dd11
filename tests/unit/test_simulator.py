"""The pretend provider: it speaks each API as the real ones do, its usage adds up, and its books say what it delivered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.simulator import Billed, Simulator
from tests.harness.messages import CutOff, request
from tests.harness.raw_client import Answer, ask, connected

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHAT, COMPLETIONS, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"
ASKED: dict[str, dict[str, Any]] = {
    CHAT: {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "one two three"}]},
    COMPLETIONS: {"model": "gpt-3.5-turbo-instruct", "prompt": "one two three"},
    RESPONSES: {"model": "gpt-4o", "input": "one two three"},
    MESSAGES: {"model": "claude-haiku-4-5", "messages": [{"role": "user", "content": "one two"}], "max_tokens": 100},
}
MOST = {
    CHAT: "max_completion_tokens",
    COMPLETIONS: "max_tokens",
    RESPONSES: "max_output_tokens",
    MESSAGES: "max_tokens",
}
each_path = pytest.mark.parametrize("path", ASKED)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


def post(path: str, wish: str = "", **more: Any) -> bytes:
    return request("POST", path, ("X-Simulate", wish), body=json.dumps(ASKED.get(path, {}) | more).encode())


async def told(provider: Simulator, path: str, wish: str = "", **more: Any) -> tuple[Any, Billed]:
    """The JSON answer and the provider's note of it."""
    answer = await ask(provider.port, post(path, wish, **more))
    assert answer.status == 200
    return json.loads(answer.body.content), provider.ledger[-1]


def events(content: bytes) -> list[tuple[str, Any]]:
    """(name, data) of each event; ``[DONE]`` as text. Every event is whole and ends with a blank line."""
    assert content.endswith(b"\n\n")
    found = []
    for block in content.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        assert fields.keys() <= {"event", "data"}
        found.append((fields.get("event", ""), "[DONE]" if fields["data"] == "[DONE]" else json.loads(fields["data"])))
    return found


async def streamed(provider: Simulator, path: str, wish: str = "", **more: Any) -> tuple[list[tuple[str, Any]], Billed]:
    """The events of a whole stream and what the provider noted down."""
    answer = await ask(provider.port, post(path, wish, stream=True, **more))
    assert answer.head.value(b"content-type") == b"text/event-stream; charset=utf-8"
    assert answer.body.whole
    return events(answer.body.content), provider.ledger[-1]


def text_of(path: str, body: Any) -> str:
    """What the model wrote, in a whole answer."""
    if path in (CHAT, COMPLETIONS):
        choice = body["choices"][0]
        return str(choice["message"]["content"] if path == CHAT else choice["text"])
    return str(body["output"][0]["content"][0]["text"] if path == RESPONSES else body["content"][0]["text"])


def text_in(path: str, found: list[tuple[str, Any]]) -> str:
    """What the model wrote, in a stream."""
    pieces = []
    for name, data in found:
        if path == CHAT and data != "[DONE]" and data["choices"]:
            pieces.append(data["choices"][0]["delta"].get("content", ""))
        elif path == COMPLETIONS and data != "[DONE]" and data["choices"]:
            pieces.append(data["choices"][0]["text"])
        elif name == "response.output_text.delta":
            pieces.append(data["delta"])
        elif name == "content_block_delta":
            pieces.append(data["delta"]["text"])
    return "".join(pieces)


def figures(path: str, usage: Any) -> tuple[int, int, int]:
    """(input, of it cached, output), by each API's own rule."""
    if path == MESSAGES:
        cached = usage["cache_read_input_tokens"]
        return usage["input_tokens"] + cached, cached, usage["output_tokens"]
    read, written = ("input", "output") if path == RESPONSES else ("prompt", "completion")
    assert usage["total_tokens"] == usage[f"{read}_tokens"] + usage[f"{written}_tokens"]
    details = usage[f"{read}_tokens_details"]
    return usage[f"{read}_tokens"], details["cached_tokens"], usage[f"{written}_tokens"]


@each_path
async def test_a_whole_answer_bills_the_words_that_it_has(provider: Simulator, path: str) -> None:
    """A token is a word; usage, ledger and text agree."""
    body, billed = await told(provider, path, "words=30;cached=2;reasoning=7")
    assert len(text_of(path, body).split()) == 30
    assert figures(path, body["usage"]) == (billed.input, 2, 30) == (billed.input, billed.cached, billed.output)
    assert (billed.path, billed.model, billed.reasoning, billed.whole) == (path, body["model"], 7, True)
    assert billed.input >= 2
    if path in (CHAT, COMPLETIONS):
        assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] == 7


@each_path
async def test_the_same_request_gets_the_same_answer(provider: Simulator, path: str) -> None:
    """Whole or streamed, so that tests may compare; another request gets another one."""
    body, _ = await told(provider, path)
    again, _ = await told(provider, path)
    assert body == again
    other, _ = await told(provider, path, temperature=0.5)
    assert text_of(path, other) != text_of(path, body)
    found, _ = await streamed(provider, path)
    assert len(text_in(path, found).split()) == len(text_of(path, body).split()) == 20


@each_path
async def test_the_callers_maximum_is_kept(provider: Simulator, path: str) -> None:
    """Like a provider: it never writes more than it was allowed, whatever is wished for."""
    for wish in ("", "words=50"):
        body, billed = await told(provider, path, wish, **{MOST[path]: 5})
        assert len(text_of(path, body).split()) == billed.output == 5


async def test_a_chat_stream_has_its_usage_in_the_last_chunk_if_asked(provider: Simulator) -> None:
    """A role, a chunk a word, a reason, usage without choices, ``[DONE]``; unasked there is none, nor its key."""
    found, billed = await streamed(provider, CHAT, "words=4;cached=1", stream_options={"include_usage": True})
    chunks = [data for _, data in found]
    assert chunks[-1] == "[DONE]"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-3]["choices"][0]["finish_reason"] == "stop"
    assert [chunk["usage"] for chunk in chunks[:-2]] == [None] * 6
    assert (chunks[-2]["choices"], figures(CHAT, chunks[-2]["usage"])) == ([], (billed.input, 1, 4))
    assert len(text_in(CHAT, found).split()) == 4
    unasked, _ = await streamed(provider, CHAT)
    assert all(data == "[DONE]" or "usage" not in data for _, data in unasked)


async def test_a_completions_stream_ends_like_the_real_one(provider: Simulator) -> None:
    """Usage in a chunk without choices, then ``[DONE]``."""
    found, billed = await streamed(provider, COMPLETIONS, "words=3", stream_options={"include_usage": True})
    assert [data for _, data in found][-1] == "[DONE]"
    assert figures(COMPLETIONS, found[-2][1]["usage"]) == (billed.input, 0, 3)


async def test_a_responses_stream_is_numbered_and_ends_with_the_whole_response(provider: Simulator) -> None:
    """Each event names its kind twice, as the API does; no ``[DONE]``."""
    found, billed = await streamed(provider, RESPONSES, "words=3")
    assert [name for name, _ in found] == [data["type"] for _, data in found]
    assert [data["sequence_number"] for _, data in found] == list(range(1, len(found) + 1))
    assert (found[0][0], found[-1][0]) == ("response.created", "response.completed")
    response = found[-1][1]["response"]
    assert text_of(RESPONSES, response) == text_in(RESPONSES, found)
    assert figures(RESPONSES, response["usage"]) == (billed.input, 0, 3)


async def test_a_messages_stream_counts_as_anthropic_does(provider: Simulator) -> None:
    """Input at the start, without what is cached; cumulative output at the end; start, block, deltas, stop."""
    found, billed = await streamed(provider, MESSAGES, "words=3;cached=1")
    names = [name for name, _ in found]
    assert names == ["message_start", "content_block_start", "ping", *["content_block_delta"] * 3, "content_block_stop",
                     "message_delta", "message_stop"]  # fmt: skip
    assert names == [data["type"] for _, data in found]
    usage = found[0][1]["message"]["usage"] | found[-2][1]["usage"]
    assert figures(MESSAGES, usage) == (billed.input, 1, 3)
    assert found[-2][1]["delta"]["stop_reason"] == "end_turn"


async def test_embeddings_have_a_vector_for_each_text_and_bill_its_words(provider: Simulator) -> None:
    """One text or several; the same text is the same vector."""
    body, billed = await told(provider, "/v1/embeddings", model="text-embedding-3-small", input=["a b", "c", "a b"])
    vectors = [item["embedding"] for item in body["data"]]
    assert [item["index"] for item in body["data"]] == [0, 1, 2]
    assert vectors[0] == vectors[2] != vectors[1]
    assert body["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    assert (billed.input, billed.output) == (5, 0)


async def test_counting_and_listing_cost_nothing(provider: Simulator) -> None:
    """They leave no line in the ledger; the count is what a call would be billed."""
    before = len(provider.ledger)
    counted = await ask(provider.port, post(f"{MESSAGES}/count_tokens", **ASKED[MESSAGES]))
    models = json.loads((await ask(provider.port, request("GET", "/v1/models"))).body.content)
    assert len(provider.ledger) == before
    assert {model["object"] for model in models["data"]} == {"model"}
    _, billed = await told(provider, MESSAGES)
    assert json.loads(counted.body.content) == {"input_tokens": billed.input}


# -- on demand -------------------------------------------------------------------------------------------------------------


def error_of(path: str, answer: Answer) -> Any:
    """The error object, in the form of the path's API."""
    body = json.loads(answer.body.content)
    assert body.keys() == ({"type", "error", "request_id"} if path == MESSAGES else {"error"})
    assert body["error"].keys() >= {"type", "message"}
    return body["error"]


@each_path
@pytest.mark.parametrize("status", [400, 429, 500, 529])
async def test_an_error_is_one_wish_away(provider: Simulator, path: str, status: int) -> None:
    """By header, or by model for who cannot send one; it is billed to nobody."""
    before = len(provider.ledger)
    for sent in (post(path, f"status={status}"), post(path, model=f"simulate-error-{status}")):
        answer = await ask(provider.port, sent)
        assert answer.status == status
        assert error_of(path, answer)["message"]
        assert answer.head.value(b"retry-after") == (b"1" if status == 429 else None)
    assert len(provider.ledger) == before


@each_path
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"\xff"])
async def test_what_is_no_request_is_an_error_of_the_callers(provider: Simulator, path: str, body: bytes) -> None:
    """400, as of a real provider; the pretend one is never a 500 by itself."""
    answer = await ask(provider.port, request("POST", path, body=body))
    assert answer.status == 400
    assert error_of(path, answer)["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "wish",
    [
        "words=many",
        "status=",
        "words=-1",
        "nonsense",
        "pace=x;words=3",
        ";;=;",
        "__class__=1",
        "status=99",
        "pace=nan",
        "delay=inf",
    ],
)
async def test_a_wish_that_makes_no_sense_is_none(provider: Simulator, wish: str) -> None:
    """It is a header that a stranger sent: what cannot be read is left out."""
    answer = await ask(provider.port, post(CHAT, wish))
    assert answer.status == 200
    assert len(text_of(CHAT, json.loads(answer.body.content)).split()) in (20, 3)


@each_path
async def test_usage_can_be_left_out(provider: Simulator, path: str) -> None:
    """As some servers do; the ledger has it all the same."""
    body, billed = await told(provider, path, "usage=none;words=6")
    assert body.get("usage") is None
    found, _ = await streamed(provider, path, "usage=none;words=6", stream_options={"include_usage": True})
    assert all(data == "[DONE]" or not data.get("usage") for _, data in found)
    assert billed.output == 6


@each_path
async def test_a_stream_can_be_cut_off(provider: Simulator, path: str) -> None:
    """Before the head, or after so many events: never a clean end, and the ledger has what was written by then."""
    with pytest.raises(CutOff):
        await ask(provider.port, post(path, "cut=0", stream=True))
    answer = await ask(provider.port, post(path, "cut=5;words=50", stream=True))
    assert not answer.body.whole
    billed = provider.ledger[-1]
    assert len(text_in(path, events(answer.body.content)).split()) == billed.output < 50
    assert not billed.whole


async def test_a_client_that_leaves_is_billed_for_what_was_written(provider: Simulator) -> None:
    """The simulator stops writing, like a provider that is cancelled."""
    async with connected(provider.port) as client:
        await client.send(post(CHAT, "words=5000;pace=0.002", stream=True))
        await client.see(b'"content":" ')
    billed, written = provider.ledger[-1], -1
    async with asyncio.timeout(10):
        while written != billed.output:
            written = billed.output
            await asyncio.sleep(0.05)
    assert 1 <= billed.output < 5000
    assert not billed.whole


async def test_pace_and_delay_are_kept(provider: Simulator) -> None:
    """The head waits, then each event: a slow model's stream takes at least so long."""
    clock = asyncio.get_running_loop().time
    began = clock()
    await ask(provider.port, post(CHAT, "words=5;delay=0.1;pace=0.02", stream=True))
    assert clock() - began >= 0.1 + 7 * 0.02


@pytest.mark.parametrize("version", ["v1", "v1beta"])
async def test_gemini_is_asked_by_the_path_and_counts_as_gemini_does(provider: Simulator, version: str) -> None:
    """Thoughts beside the candidates' tokens; a stream tells usage in each chunk, and the last one is the whole's."""
    path = f"/{version}/models/gemini-2.5-flash"
    asked = {"contents": [{"role": "user", "parts": [{"text": "one two three"}]}]}
    body, billed = await told(provider, f"{path}:generateContent", "words=9;cached=2;reasoning=4", **asked)
    usage = body["usageMetadata"]
    assert (usage["candidatesTokenCount"], usage["thoughtsTokenCount"], usage["cachedContentTokenCount"]) == (5, 4, 2)
    assert usage["totalTokenCount"] == billed.input + billed.output == usage["promptTokenCount"] + 9
    assert (body["modelVersion"], billed.model) == ("gemini-2.5-flash", "gemini-2.5-flash")
    short = {"generationConfig": {"maxOutputTokens": 3}}
    found, billed = await streamed(provider, f"{path}:streamGenerateContent?alt=sse", "words=9", **asked, **short)
    chunks = [data for _, data in found]
    assert [chunk["usageMetadata"]["candidatesTokenCount"] for chunk in chunks] == [1, 2, 3]
    assert [chunk["candidates"][0].get("finishReason") for chunk in chunks] == [None, None, "STOP"]
    assert billed.output == 3
    failed = await ask(provider.port, post(f"{path}:generateContent", "status=429", **asked))
    assert json.loads(failed.body.content)["error"]["status"] == "RESOURCE_EXHAUSTED"
