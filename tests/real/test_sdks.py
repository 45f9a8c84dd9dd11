"""OpenAI's and Anthropic's own SDKs through the gateway: nothing but their base URL says that it is there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from gateway.admission.keys import hash_of
from gateway.simulator import Simulator
from tests.harness.gateways import config_for, in_process, record_of, records

anthropic = pytest.importorskip("anthropic", reason="the anthropic SDK is not installed")
openai = pytest.importorskip("openai", reason="the openai SDK is not installed")

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

ASK: list[dict[str, str]] = [{"role": "user", "content": "What is the weather like in Oslo?"}]
CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": ASK}
RESPONSE: dict[str, Any] = {"model": "gpt-4o-mini", "input": "What is the weather like in Oslo?"}
MESSAGE: dict[str, Any] = {"model": "claude-haiku-4-5", "messages": ASK, "max_tokens": 50}
TOLD: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
BUDGETS = [
    {"scope": "team:poor", "limit_usd": "0.000001", "window": "total"},
    {"scope": "team:daily", "limit_usd": "0.000001", "window": "day"},
    {"scope": "team:narrow", "limit_usd": "0.001", "window": "total"},
    {"scope": "team:brief", "limit_usd": "0.001", "window": "total", "on_exhausted": "cut"},
    {"scope": "team:terse", "limit_usd": "0.001", "window": "total", "on_exhausted": "cut"},
    {"scope": "team:short", "limit_usd": "0.007", "window": "total", "on_exhausted": "cut"},
]

LIMITS = [
    {"scope": "team:eager-openai", "requests_per_minute": 40},
    {"scope": "team:eager-anthropic", "requests_per_minute": 40},
    {"scope": "team:crowd", "concurrent": 2},
    {"scope": "team:wordy", "tokens_per_minute": 100},
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[Simulator]:
    """A pretend OpenAI and Anthropic."""
    async with Simulator() as simulator:
        yield simulator


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(provider: Simulator, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    """A gateway before it, with budgets for teams that have too little."""
    folder = tmp_path_factory.mktemp("sdks")
    async with in_process(folder, config_for(folder, provider.url, budgets=BUDGETS, limits=LIMITS)) as serving:
        yield serving


@asynccontextmanager
async def clients(kind: Any, *places: str, **options: Any) -> AsyncIterator[list[Any]]:
    """One client of an SDK for each place."""
    opened = [kind(base_url=place, api_key="sk-of-the-app", **options) for place in places]
    try:
        yield opened
    finally:
        for client in opened:
            await client.close()


def places(kind: str, provider: Simulator, gateway: Any) -> tuple[str, str]:
    """The base URLs of the provider and of the gateway, as each SDK wants them."""
    end = "/v1" if kind == "openai" else ""
    return provider.url + end, gateway.front_url + end


async def number_of_records(gateway: Any) -> int:
    """Calls booked so far."""
    return len(await records(gateway.admin_url, 0))


async def of_team(gateway: Any, team: str, count: int) -> list[dict[str, Any]]:
    """The records of a team, as soon as there are so many."""
    async with asyncio.timeout(15):
        while True:
            found = [each for each in await records(gateway.admin_url, 0) if each["team"] == team]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.01)


async def told(raw: Any, gateway: Any) -> dict[str, Any]:
    """The record of an answer, checked against the fields of its head."""
    record = await record_of(gateway.admin_url, raw.headers["x-tollgate-call-id"])
    assert raw.headers["x-correlation-id"] == record["correlation_id"]
    assert Decimal(raw.headers["x-tollgate-cost-usd"]) == Decimal(record["cost_nanousd"]).scaleb(-9)
    assert (record["usage_source"], raw.headers["x-tollgate-usage"]) == ("provider", "provider")
    assert record["cost_nanousd"] > 0
    return record


# -- the same answers -----------------------------------------------------------------------------------------------------


async def test_openai_objects_are_the_same_as_directly(provider: Simulator, gateway: Any) -> None:
    """Chat, responses, completions, embeddings and models, parsed by the SDK's own types; the cost stands in the head."""
    async with clients(openai.AsyncOpenAI, *places("openai", provider, gateway)) as (direct, through):
        completion = {"model": "gpt-3.5-turbo-instruct", "prompt": "Once"}
        vectors = {"model": "text-embedding-3-small", "input": ["one", "another one"]}
        for which, arguments in {
            "chat.completions": CHAT,
            "responses": RESPONSE,
            "completions": completion,
            "embeddings": vectors,
        }.items():
            first, second = direct, through
            for part in which.split("."):
                first, second = getattr(first, part), getattr(second, part)
            expected = await first.create(**arguments)
            raw = await second.with_raw_response.create(**arguments)
            assert raw.parse() == expected, which
            record = await told(raw, gateway)
            assert sum(record["usage"].values()) == expected.usage.total_tokens
        assert (await through.models.list()).data == (await direct.models.list()).data


async def test_openai_streams_are_the_same_as_directly(provider: Simulator, gateway: Any) -> None:
    """Event by event, and the usage at the end is what is booked."""
    async with clients(openai.AsyncOpenAI, *places("openai", provider, gateway)) as (direct, through):
        expected = [chunk async for chunk in await direct.chat.completions.create(**CHAT, **TOLD)]
        raw = await through.chat.completions.with_raw_response.create(**CHAT, **TOLD)
        assert [chunk async for chunk in raw.parse()] == expected
        record = await record_of(gateway.admin_url, raw.headers["x-tollgate-call-id"])
        assert sum(record["usage"].values()) == expected[-1].usage.total_tokens

        events = [event async for event in await direct.responses.create(**RESPONSE, stream=True)]
        assert [event async for event in await through.responses.create(**RESPONSE, stream=True)] == events
        async with through.chat.completions.stream(**CHAT) as stream:
            await stream.until_done()
            final = await stream.get_final_completion()
        whole = await direct.chat.completions.create(**CHAT | {"stream": True})
        assert final.choices[0].message.content == "".join([c.choices[0].delta.content or "" async for c in whole])


async def test_anthropic_objects_and_streams_are_the_same_as_directly(provider: Simulator, gateway: Any) -> None:
    """Messages whole and streamed, and the count of tokens, which is free."""
    wish = {"x-simulate": "cached=3"}
    async with clients(anthropic.AsyncAnthropic, *places("anthropic", provider, gateway)) as (direct, through):
        expected = await direct.messages.create(**MESSAGE, extra_headers=wish)
        raw = await through.messages.with_raw_response.create(**MESSAGE, extra_headers=wish)
        assert await raw.parse() == expected
        record = await told(raw, gateway)
        assert record["usage"]["cached_input"] == expected.usage.cache_read_input_tokens == 3
        assert record["usage"]["output"] == expected.usage.output_tokens

        events = [event async for event in await direct.messages.create(**MESSAGE, stream=True)]
        assert [event async for event in await through.messages.create(**MESSAGE, stream=True)] == events
        async with through.messages.stream(**MESSAGE) as stream:
            final = await stream.get_final_message()
        record = (await records(gateway.admin_url))[0]
        assert final.usage.output_tokens == record["usage"]["output"]

        counted = [
            await each.messages.count_tokens(model="claude-haiku-4-5", messages=ASK) for each in (direct, through)
        ]
        assert counted[0] == counted[1]


async def test_clients_that_block_work_as_well(provider: Simulator, gateway: Any) -> None:
    """The SDKs' other half, from threads."""

    def ask_both() -> tuple[Any, Any]:
        openai_place, anthropic_place = (places(kind, provider, gateway)[1] for kind in ("openai", "anthropic"))
        with openai.OpenAI(base_url=openai_place, api_key="sk-1") as client:
            text = "".join(
                chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**CHAT, stream=True)
            )
            whole = client.chat.completions.create(**CHAT)
        with anthropic.Anthropic(base_url=anthropic_place, api_key="sk-2") as client:
            message = client.messages.create(**MESSAGE)
        return (text, whole), message

    (text, whole), message = await asyncio.to_thread(ask_both)
    assert text
    assert whole.choices[0].message.content
    assert message.content[0].text


# -- errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429, 500, 503, 529])
async def test_a_provider_s_error_is_the_sdk_s_own_exception(provider: Simulator, gateway: Any, status: int) -> None:
    """Of the same class, with the same body, whether the gateway stands between or not; and it costs nothing."""
    wish = {"x-simulate": f"status={status}"}
    for kind, module, name, arguments in (
        ("openai", openai, "AsyncOpenAI", CHAT),
        ("anthropic", anthropic, "AsyncAnthropic", MESSAGE),
    ):
        errors = []
        async with clients(getattr(module, name), *places(kind, provider, gateway), max_retries=0) as both:
            for client in both:
                create = client.chat.completions.create if kind == "openai" else client.messages.create
                with pytest.raises(module.APIStatusError) as caught:
                    await create(**arguments, extra_headers=wish)
                errors.append(caught.value)
        direct, through = errors
        assert type(through) is type(direct)
        assert (through.status_code, through.body, str(through)) == (direct.status_code, direct.body, str(direct))
        assert through.response.headers.get("retry-after") == direct.response.headers.get("retry-after")
        assert "x-should-retry" not in through.response.headers
        record = await record_of(gateway.admin_url, through.response.headers["x-tollgate-call-id"])
        assert (record["outcome"], record["error_type"], record["cost_nanousd"]) == ("upstream_error", str(status), 0)


async def test_retries_are_the_sdk_s_own(provider: Simulator, gateway: Any) -> None:
    """A 500 is tried three times by the SDK, and not once more by the gateway: every try is a call in the books."""
    before = await number_of_records(gateway)
    async with clients(openai.AsyncOpenAI, places("openai", provider, gateway)[1], max_retries=2) as (client,):
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(**CHAT, extra_headers={"x-simulate": "status=500"})
    found = await records(gateway.admin_url, before + 3)
    assert len(found) == before + 3
    assert [record["attempts"] for record in found[:3]] == [1, 1, 1]


@pytest.mark.parametrize("team", ["poor", "daily"])
@pytest.mark.parametrize("kind", ["openai", "anthropic"])
async def test_an_exhausted_budget_is_a_rate_limit_error_once(
    provider: Simulator, gateway: Any, kind: str, team: str
) -> None:
    """``x-should-retry: false`` keeps the SDK from trying again, and the provider hears nothing of it."""
    module, name = (openai, "AsyncOpenAI") if kind == "openai" else (anthropic, "AsyncAnthropic")
    billed, before = len(provider.ledger), await number_of_records(gateway)
    options = {"max_retries": 5, "default_headers": {"x-tollgate-team": team}}
    async with clients(getattr(module, name), places(kind, provider, gateway)[1], **options) as (client,):
        create = client.chat.completions.create if kind == "openai" else client.messages.create
        with pytest.raises(module.RateLimitError) as caught:
            await create(**(CHAT if kind == "openai" else MESSAGE))
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert f"team:{team}" in caught.value.message
    if kind == "openai":
        assert caught.value.code == "budget_exceeded"
    await record_of(gateway.admin_url, caught.value.response.headers["x-tollgate-call-id"])
    assert await number_of_records(gateway) == before + 1
    assert len(provider.ledger) == billed


@pytest.mark.parametrize("which", ["chat.completions", "responses", "messages"])
async def test_a_stream_that_a_budget_cuts_is_an_error_they_raise(
    provider: Simulator, gateway: Any, which: str
) -> None:
    """In the loop that reads it, after the text that came: with a code and a sentence, and not tried again."""
    kind, module, name = (
        ("anthropic", anthropic, "AsyncAnthropic") if which == "messages" else ("openai", openai, "AsyncOpenAI")
    )
    team = {"chat.completions": "brief", "responses": "terse", "messages": "short"}[which]
    arguments = {"chat.completions": CHAT, "responses": RESPONSE, "messages": MESSAGE | {"max_tokens": 9000}}[which]
    before, billed = await number_of_records(gateway), len(provider.ledger)
    wish = {"x-tollgate-team": team, "x-simulate": "words=9000;pace=0.0002"}
    seen = 0
    async with clients(getattr(module, name), places(kind, provider, gateway)[1], default_headers=wish) as (client,):
        part = client
        for each in which.split("."):
            part = getattr(part, each)
        with pytest.raises(module.APIError) as caught:
            async for _ in await part.create(**arguments, stream=True):
                seen += 1
    assert 500 < seen < 8000
    assert "cut off" in str(caught.value)
    assert f"team:{team}" in str(caught.value)
    if kind == "openai":
        assert caught.value.code == "budget_exceeded"
    (record,) = (await records(gateway.admin_url, before + 1))[: -before or None]
    assert (record["outcome"], record["error_type"]) == ("cut", "budget_exceeded")
    assert len(provider.ledger) == billed + 1


async def test_room_that_is_only_held_is_waited_for(provider: Simulator, gateway: Any) -> None:
    """Two calls of which only one fits at a time: the gateway waits for a moment, the SDK comes back when it is told to, and
    both are answered.
    """
    async with clients(
        openai.AsyncOpenAI,
        places("openai", provider, gateway)[1],
        max_retries=10,
        default_headers={"x-tollgate-team": "narrow", "x-simulate": "delay=1.2"},
    ) as (client,):
        answers = await asyncio.gather(
            *(client.chat.completions.with_raw_response.create(**CHAT, max_tokens=1000) for _ in range(2))
        )
    assert sorted(answer.retries_taken > 0 for answer in answers) == [False, True]


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
async def test_they_come_back_when_a_limit_tells_them_to(provider: Simulator, gateway: Any, kind: str) -> None:
    """Two calls more than a minute lets through: each SDK waits as long as ``retry-after-ms`` says, a second and a half, and all
    are answered, with hardly a try too many.
    """
    module, name = (openai, "AsyncOpenAI") if kind == "openai" else (anthropic, "AsyncAnthropic")
    options = {"max_retries": 5, "default_headers": {"x-tollgate-team": f"eager-{kind}"}}
    async with clients(getattr(module, name), places(kind, provider, gateway)[1], **options) as (client,):
        raw = client.chat.completions.with_raw_response if kind == "openai" else client.messages.with_raw_response
        began = time.monotonic()
        answers = await asyncio.gather(*(raw.create(**(CHAT if kind == "openai" else MESSAGE)) for _ in range(42)))
        took = time.monotonic() - began
    assert sum(answer.retries_taken > 0 for answer in answers) >= 1
    assert {answer.http_response.status_code for answer in answers} == {200}
    assert 1 < took < 20
    refused = [each for each in await of_team(gateway, f"eager-{kind}", 43) if each["outcome"] == "refused"]
    assert {record["error_type"] for record in refused} == {"rate_limit_exceeded"}
    assert 1 <= len(refused) <= 8


async def test_a_crowd_is_answered_a_few_at_a_time(provider: Simulator, gateway: Any) -> None:
    """Twelve calls where two may run: some wait in the gateway, others are told to come back, none is lost."""
    wish = {"x-tollgate-team": "crowd", "x-simulate": "delay=0.2"}
    async with clients(
        openai.AsyncOpenAI, places("openai", provider, gateway)[1], max_retries=10, default_headers=wish
    ) as (client,):
        answers = await asyncio.gather(*(client.chat.completions.create(**CHAT) for _ in range(12)))
    assert all(answer.usage for answer in answers)


async def test_a_prompt_that_no_minute_has_room_for_is_not_tried_again(provider: Simulator, gateway: Any) -> None:
    """``x-should-retry: false``: the SDK raises at the first answer."""
    long = CHAT | {"messages": [{"role": "user", "content": "word " * 1000}]}
    options: dict[str, Any] = {"max_retries": 5, "default_headers": {"x-tollgate-team": "wordy"}}
    async with clients(openai.AsyncOpenAI, places("openai", provider, gateway)[1], **options) as (client,):
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(**long)
    assert (caught.value.code, caught.value.response.headers["x-should-retry"]) == ("rate_limit_exceeded", "false")
    await record_of(gateway.admin_url, caught.value.response.headers["x-tollgate-call-id"])
    assert len(await of_team(gateway, "wordy", 1)) == 1


# -- gateway keys ---------------------------------------------------------------------------------------------------------

GOOD, LATE, UNKNOWN = ("tg-" + each * 4 for each in ("GoodKey1", "LateKey2", "Unknown3"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(provider: Simulator, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    """A gateway that asks for keys."""
    folder = tmp_path_factory.mktemp("guarded")
    keys = [
        {"name": "good", "hash": hash_of(GOOD), "team": "search", "models": ["gpt-4o-mini", "claude-haiku-*"]},
        {"name": "late", "hash": hash_of(LATE), "expires": "2026-01-01"},
    ]
    config = config_for(folder, provider.url, auth={"mode": "keys"}, keys=keys, up={"api_key": "sk-own"})
    async with in_process(folder, config) as serving:
        yield serving


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@pytest.mark.parametrize(
    ("key", "model", "team", "raised"),
    [
        (UNKNOWN, "", "", "AuthenticationError"), (LATE, "", "", "AuthenticationError"), ("sk-app", "", "", "AuthenticationError"),
        (GOOD, "o3", "", "PermissionDeniedError"), (GOOD, "", "other", "PermissionDeniedError"), (GOOD, "", "search", ""),
    ],
)  # fmt: skip
async def test_a_gateway_key_is_asked_for_once(
    provider: Simulator, guarded: Any, kind: str, key: str, model: str, team: str, raised: str
) -> None:
    """Each SDK raises its own error for 401 and 403 at the first answer, with our sentence; the good key calls as ever."""
    module, name = (openai, "AsyncOpenAI") if kind == "openai" else (anthropic, "AsyncAnthropic")
    billed, before = len(provider.ledger), await number_of_records(guarded)
    headers = {"x-tollgate-team": team} if team else {}
    client = getattr(module, name)(
        base_url=places(kind, provider, guarded)[1], api_key=key, max_retries=5, default_headers=headers
    )
    async with client:
        create = client.chat.completions.create if kind == "openai" else client.messages.create
        asked = (CHAT if kind == "openai" else MESSAGE) | ({"model": model} if model else {})
        if raised:
            with pytest.raises(getattr(module, raised)) as caught:
                await create(**asked)
            assert "gateway key" in caught.value.message
            assert key not in str(caught.value)
        else:
            assert await create(**asked)
    (record, *_) = await records(guarded.admin_url, before + 1)
    assert len(await records(guarded.admin_url, 0)) == before + 1
    assert len(provider.ledger) == billed + (not raised)
    assert record["key_name"] == {GOOD: "good", LATE: "late"}.get(key, "")


# -- many -----------------------------------------------------------------------------------------------------------------


async def test_fifty_calls_at_once_are_answered_and_booked_one_by_one(provider: Simulator, gateway: Any) -> None:
    """Each gets the answer to its own question, and the sum of the books is the sum of what the provider bills."""
    before, billed = await number_of_records(gateway), len(provider.ledger)
    async with clients(openai.AsyncOpenAI, *places("openai", provider, gateway)) as (direct, through):

        async def one(number: int) -> tuple[Any, Any]:
            arguments = CHAT | {"messages": [{"role": "user", "content": f"Question {number}?"}]}
            if number % 2:
                return arguments, await through.chat.completions.create(**arguments)
            return arguments, [chunk async for chunk in await through.chat.completions.create(**arguments, **TOLD)]

        async with asyncio.timeout(30):
            answers = await asyncio.gather(*(one(number) for number in range(50)))
        found = (await records(gateway.admin_url, before + 50))[:50]
        said = list(provider.ledger)[billed:]
        for number, (arguments, answer) in enumerate(answers):
            if number % 2:
                assert answer == await direct.chat.completions.create(**arguments)
            else:
                assert answer == [chunk async for chunk in await direct.chat.completions.create(**arguments, **TOLD)]
    assert len(said) == 50
    assert {record["usage_source"] for record in found} == {"provider"}
    assert sum(record["usage"]["input"] for record in found) == sum(each.input for each in said)
    assert sum(record["usage"]["output"] for record in found) == sum(each.output for each in said)
