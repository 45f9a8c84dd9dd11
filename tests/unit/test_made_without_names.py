"""Values with many fields that are made without their names, since names cost time: every field gets its own value.

Each test gives every field a value of its own and looks at all of them by name, so that two that change places are seen.
"""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.accounts import Account, Claim, Hold, Use
from gateway.admission.budgets import Budget, Ledger
from gateway.admission.identity import identify
from gateway.admission.keys import Key
from gateway.admission.scopes import Facts, facts_of
from gateway.call import Ask, Call, Caller, Ending, Metered, Record, Request, as_json
from gateway.dialects import Reading
from gateway.dialects.beyond import Beyond
from gateway.dialects.openai_usage import split
from gateway.dialects.table import dialect_for
from gateway.dialects.values import asked
from gateway.ending import ending_of
from gateway.errors import Excess, Failure, Kind, Refusal, Whose
from gateway.record import record_of
from gateway.settle import Settler
from gateway.store import Settlement
from gateway.store.rollups import USUAL, spend_of
from gateway.watch import Watch
from gateway.wire.attempts import Sent
from gateway.wire.headers import noted
from pricing.book import Book
from pricing.money import Cost
from pricing.usage import Usage

CALL_ID = "0193505d-1b2c-7abc-8def-0123456789ab"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
MS = 1_000_000
ACCOUNT, GLOBAL = Account("team:t", "day:2026-11-18"), Account("global", "total")
CLAIMS = (Claim(ACCOUNT, 11, 12, "of team"), Claim(GLOBAL, 13, None, "of all"))
USES = (Use("team:t", "tokens_per_minute", 14, 15, "slow"),)
CALLER = Caller(
    team="t", user="u", agent="a", call_type="c", correlation_id="tie", trace_id=TRACE, parent_span_id="0" * 15 + "1",
    sampled="1", tags=(("k", "v"),), key_name="key",
)  # fmt: skip


def whole_call() -> Call:
    """One that has everything."""
    call = Call(CALL_ID, 1_795_000_000.25, 1000 * MS, "version", waited_ns=7 * MS, reserve_ns=9 * MS)
    call.caller, call.claims, call.uses = CALLER, CLAIMS, USES
    call.request = Request(
        method="POST", target="/target", headers=(), fields={}, upstream="up", protocol="protocol", upstream_target="/there",
        provider="provider", body=b"body", priced_as="priced", sent_body=b"sent", received_ns=1003 * MS,
    )  # fmt: skip
    call.ask = Ask(operation="chat", metered=True, model="asked", stream=True)
    call.hold = Hold(CALL_ID, 16, CLAIMS, 17, ("shadow",))
    call.refusal = Refusal(Kind.RATE_LIMIT, "no", budget="of all", excess=Excess("slow", "team:t", "unit", 1, 2, 3))
    call.ending = Ending(
        outcome="cut", status=299, error_type="error", upstream="up", attempts=2, sent_ns=1020 * MS, first_byte_ns=1040 * MS,
        ended_ns=1090 * MS, request_bytes=18, response_bytes=19, provider_key="second",
    )  # fmt: skip
    call.usage = Metered(
        usage=Usage(input=20, output=21), source="provider", method="usage", model_served="served", service_tier="flex",
        raw={"raw": 22}, largest_input=23, awaits="later",
    )  # fmt: skip
    call.cost = Cost(nanousd=24, rows=("row",), book="book", unpriced=True)
    call.compared = {"input": 25}
    return call


def test_a_record() -> None:
    """Of a call that has everything."""
    expected: dict[str, Any] = {
        "call_id": CALL_ID, "correlation_id": "tie", "trace_id": TRACE, "started_at": "2026-11-18T11:06:40.250Z", "team": "t",
        "user": "u", "agent": "a", "call_type": "c", "tags": {"k": "v"}, "key_name": "key", "upstream": "up",
        "provider": "provider", "protocol": "protocol", "operation": "chat", "model_requested": "asked",
        "model_served": "served", "stream": True, "status": 299, "error_type": "error", "attempts": 2,
        "usage": {"input": 20, "output": 21}, "usage_source": "provider", "usage_method": "usage", "usage_raw": {"raw": 22},
        "cost_nanousd": 24, "price_rows": ("row",), "pricebook": "book", "unpriced": True, "service_tier": "flex",
        "held_nanousd": 16, "budgets": ("of all", "of team"), "latency_ms": 90.0, "ttft_ms": 40.0, "overhead_ms": 10.0,
        "read_ms": 3.0, "reserve_ms": 9.0, "sent_ms": 20.0, "request_bytes": 18, "response_bytes": 19,
        "config_version": "version", "outcome": "cut", "accounts": ("team:t/day:2026-11-18", "global/total"),
        "parent_span_id": "0" * 15 + "1", "sampled": "1", "touched": ("stream_usage",), "priced_as": "priced",
        "own_count": {"input": 25}, "awaits": "later", "told_by": "", "corrects": "", "corrected_nanousd": 0,
        "corrected_usage": {}, "largest_input": 23, "would_refuse": ("shadow",),
        "refused_by": {"limit": "slow", "scope": "team:t", "unit": "unit"}, "waited_ms": 7.0, "provider_key": "second",
    }  # fmt: skip
    assert asdict(record_of(whole_call())) == expected
    assert list(expected) == [field.name for field in fields(Record)]


def test_the_record_of_a_call_that_came_to_nothing() -> None:
    """Its names and times are its own, everything else is blank."""
    expected = {field.name: "" for field in fields(Record) if field.type == "str"}
    expected |= {"call_id": CALL_ID, "correlation_id": CALL_ID, "trace_id": CALL_ID.replace("-", "")}
    expected |= {"started_at": "2026-11-18T11:06:40.000Z", "config_version": "version", "outcome": "refused"}
    record = asdict(record_of(Call(CALL_ID, 1_795_000_000.0, 1000 * MS, "version")))
    assert {name: text for name, text in record.items() if name in expected} == expected
    assert not any(found for name, found in record.items() if name not in expected)
    assert {name for name, found in record.items() if found is None} == {"usage_raw", "ttft_ms", "sent_ms"}


def test_a_caller() -> None:
    """With a gateway key and every header."""
    headers = noted(
        (
            (b"X-Tollgate-User", b"u"), (b"X-Tollgate-Agent", b"a"), (b"X-Tollgate-Call-Type", b"c"),
            (b"X-Tollgate-Tags", b"k=v"), (b"X-Tollgate-Budget", b"2/day/agent"), (b"X-Correlation-Id", b"tie"),
            (b"traceparent", f"00-{TRACE}-{'0' * 15}1-01".encode()),
        )
    )  # fmt: skip
    found = identify(headers, "new", Key("key", b"", team="t"))
    assert isinstance(found, Caller)
    assert asdict(found) == asdict(CALLER) | {"limits": ((2 * 10**9, "day", "agent"),)}


def test_facts() -> None:
    """The caller's, and those of the way."""
    way = Facts(model="m", provider="p", upstream="up", team="nobody's", user="nobody's")
    expected: dict[str, Any] = {"team": "t", "user": "u", "agent": "a", "key": "key", "model": "m", "provider": "p"}
    expected |= {"upstream": "up", "tags": (("k", "v"),), "request": "tie"}
    assert facts_of(CALLER, way)._asdict() == expected
    assert facts_of(CALLER, None)._asdict() == expected | {"model": "", "provider": "", "upstream": ""}


def test_an_ending() -> None:
    """Of a call that went out, and of one that did not come so far."""
    arrival: Any = SimpleNamespace(reply=SimpleNamespace(status=299), gone=False)
    relay: Any = SimpleNamespace(sent_ns=31, first_byte_ns=32, response_bytes=33, status=299, front_gone=False)
    failure = Failure(Kind.UPSTREAM_RESET, Whose.UPSTREAM, "It broke.")
    found = asdict(ending_of(arrival, whole_call(), Sent(relay, 34, failure, 35, "second")))
    assert found.pop("ended_ns") > 35
    names: dict[str, Any] = {"status": 299, "error_type": "upstream_reset", "upstream": "up", "provider_key": "second"}
    assert found == names | {
        "outcome": "upstream_error", "attempts": 34, "sent_ns": 31, "first_byte_ns": 32, "request_bytes": 35,
        "response_bytes": 33,
    }  # fmt: skip
    found = asdict(ending_of(arrival, whole_call(), Sent(None, 34, failure, 0, "second")))
    assert found.pop("ended_ns") > 35
    assert found == names | {
        "outcome": "upstream_error", "attempts": 34, "sent_ns": 0, "first_byte_ns": 0, "request_bytes": 0,
        "response_bytes": 0,
    }  # fmt: skip


def test_an_ask() -> None:
    """What all dialects call by the same name, and what only some do."""
    beyond = Beyond(most=41, likely=42, bytes=43, open=True, searches=44)
    found = asked(
        "chat", b"12345", {"model": "m", "stream": True, "service_tier": "flex"}, "a fault", beyond, choices=45,
        max_output_tokens=46, seconds=47, likely_seconds=48, characters=49, images=50,
    )  # fmt: skip
    assert asdict(found) == {
        "operation": "chat", "metered": True, "model": "m", "stream": True, "choices": 45, "max_output_tokens": 46,
        "input_bytes": 5, "service_tier": "flex", "fault": "a fault", "media_bytes": 43, "extra_tokens": 41,
        "likely_extra_tokens": 42, "open_input": True, "searches": 44, "seconds": 47, "likely_seconds": 48,
        "characters": 49, "images": 50,
    }  # fmt: skip
    assert asked("chat", b"12345", {}, "", service_tier="fast", text_bytes=3) == Ask(
        operation="chat", metered=True, input_bytes=3, service_tier="fast"
    )


def test_a_usage() -> None:
    """Every detail that there is."""
    raw = {
        "in": 1000, "in_details": {"cached_tokens": 1, "cache_write_tokens": 2, "audio_tokens": 4, "image_tokens": 8},
        "out": 2000, "out_details": {"reasoning_tokens": 16, "audio_tokens": 32, "image_tokens": 64},
    }  # fmt: skip
    assert split(raw, "in", "out") == Usage(
        input=985, cached_input=1, cache_write=2, audio_in=4, image_in=8, output=1888, reasoning=16, audio_out=32,
        image_out=64,
    )  # fmt: skip


def test_a_claim_of_another_amount() -> None:
    """All the rest stays."""
    claim = Claim(
        account=ACCOUNT, amount_nanousd=11, limit_nanousd=12, budget="of team", window="day", resets_at=13, shadow_nanousd=14,
        notify_at=(15,), cut=True, lost_estimate=True, grows=True, forgiven_nanousd=16,
    )  # fmt: skip
    for flag in ("cut", "lost_estimate", "grows"):
        one = replace(claim, **{flag: False})
        assert one.of(17) == replace(one, amount_nanousd=17)


def test_a_claim() -> None:
    """Of a budget with every option, and of one call's ceiling."""
    at = 1_795_000_000

    def claim(**options: Any) -> Claim:
        ledger = Ledger([Budget("name", "team:t", 61, "hour", **options)], {"team:t/hour:2026-11-18T11": 63})
        return next(each for each in ledger.claims(Caller(team="t"), at, 64, 65) if each.budget == "name")

    strict = {
        "account": Account(scope="team:t", window="hour:2026-11-18T11"), "amount_nanousd": 65, "limit_nanousd": 61 + 63,
        "budget": "name", "window": "hour", "resets_at": at - at % 3600 + 3600, "shadow_nanousd": None,
        "notify_at": (62,), "cut": True, "lost_estimate": False, "grows": True, "forgiven_nanousd": 63,
    }  # fmt: skip
    assert asdict(claim(mode="strict", notify_at=(62,), cut=True)) == strict
    assert asdict(claim(mode="hard", lost_estimate=True)) == strict | {
        "amount_nanousd": 64, "notify_at": (), "cut": False, "lost_estimate": True,
    }  # fmt: skip
    assert asdict(claim(mode="shadow")) == strict | {
        "amount_nanousd": 64, "limit_nanousd": None, "shadow_nanousd": 61 + 63, "notify_at": (), "cut": False, "grows": False,
    }  # fmt: skip
    over = Ledger([Budget("name", "call", 61, "day", "strict")]).over_ceiling(Caller(), 64, 65)
    assert over == (
        Claim(Account("call", "call"), amount_nanousd=65, limit_nanousd=61, budget="name", window="call"),
        65,
    )


@pytest.mark.parametrize(
    ("provider", "reading", "nanousd"),
    [
        ("openai", Reading(model="gpt-4o-mini"), 1000 * 150),
        ("openai", Reading(model="gpt-5", service_tier="flex"), 1000 * 625),
        ("google", Reading(model="gemini-2.5-pro", largest_input=300_000), 1000 * 2500),
        ("openrouter", Reading(model="m", usage={"cost": 0.5}), 5 * 10**8),
    ],
)
def test_a_price_on_the_way(provider: str, reading: Reading, nanousd: int) -> None:
    """Of a stream: it goes by the model and the tier that it names, by its largest request, and by its provider's own charge."""
    call = whole_call()
    call.request = Request("POST", "", (), {}, "up", "openai", "", provider)
    snapshot: Any = SimpleNamespace(book=Book.load())
    assert Watch(call, snapshot, dialect_for("openai", "", "")).price(Usage(input=1000), reading) == nanousd


def test_a_settlement() -> None:
    """What the store is to book of a call."""
    store: Any = None  # it is not asked
    call, record, settler = whole_call(), record_of(whole_call()), Settler(store, lambda batch: None)
    assert settler._settlement(record, [ACCOUNT, GLOBAL], CLAIMS[:1], call) == Settlement(
        call_id=CALL_ID, cost_nanousd=24, outcome="cut", accounts=(ACCOUNT, GLOBAL), record=as_json(record),
        started_at="2026-11-18T11:06:40.250Z", limits=CLAIMS[:1], spend=spend_of(record, USUAL), uses=USES, tokens=41,
        correlation_id="tie", awaits="later",
    )  # fmt: skip
