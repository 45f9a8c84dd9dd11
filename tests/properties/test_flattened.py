"""What was written flat, or remembered, for the sake of speed, against the plain way to say it."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.accounts import Account, Claim
from gateway.admission.bounds import LIKELY_CHOICES, LIKELY_OUTPUT_TOKENS, MOST_NANOUSD, bound
from gateway.admission.budgets import Budget, Ledger
from gateway.admission.limits import Limit, Limits
from gateway.admission.scopes import Facts
from gateway.call import Ask, Caller
from gateway.dialects.openai_usage import split
from gateway.dialects.values import MAX_OUTPUT_TOKENS, MAX_USAGE, count, output_bound
from gateway.errors import Failure
from gateway.record import timestamp
from gateway.store.books import Reserve
from gateway.store.keys import hour_of
from gateway.store.page import MAX_BALANCE_NANOUSD, Key, Line, Page
from gateway.wire.routes import Routes, Rule
from pricing.book import Book
from pricing.price import Rates, Tariff
from pricing.usage import UNITS, Usage

BOOK = Book.load()
AT = 1_795_000_000
TOLD = st.none() | st.booleans() | st.integers(-5, 50) | st.integers() | st.floats() | st.text(max_size=2)
"""What may stand where a count is expected."""
ODD = TOLD.map(lambda told: told)
"""The same, as one way among others: else its six kinds would be drawn six times as often as what is right."""
NAMED = st.sampled_from(["", "a", "b", "a+b"])
MOMENTS = st.integers(1_761_000_000, 1_800_000_000) | st.sampled_from(
    [1_761_440_400, 1_774_746_000, 1_792_890_000, 1_767_225_600, AT, AT + 3_600, AT + 86_400]
)
"""Of a year and more; clocks in Berlin change at some of them, a year ends, an hour and a day begin."""
FORGIVEN = [
    f"{scope}/{window}"
    for scope in ("global", "team:a", "team:-", "user:b", "user:-", "agent:a")
    for window in ("hour:2026-11-18T11", "day:2026-11-18", "week:2026-W47", "month:2026-11", "total")
]


# -- what a provider says ----------------------------------------------------------------------------------------------


def plain_count(told: Any) -> int | None:
    """Whole and not negative, JSON's floats included; true and false are no numbers."""
    if isinstance(told, bool) or not isinstance(told, int | float) or (isinstance(told, float) and not isfinite(told)):
        return None
    return min(int(told), MAX_USAGE) if told >= 0 and told == int(told) else None


@given(TOLD | st.integers(MAX_USAGE - 2, MAX_USAGE + 2))
def test_a_count(told: Any) -> None:
    """As a person would read it."""
    assert count(told) == plain_count(told)
    assert type(count(told)) in (int, type(None))


@given(st.lists(TOLD | st.integers(MAX_OUTPUT_TOKENS - 1, MAX_OUTPUT_TOKENS + 1), max_size=4))
def test_the_bound_of_an_output(told: list[Any]) -> None:
    """The largest whole number among them."""
    whole = [each for each in told if type(each) is int and each >= 0]
    assert output_bound(*told) == (min(max(whole), MAX_OUTPUT_TOKENS) if whole else None)


class Rest:
    """What is left of a total."""

    def __init__(self, total: int) -> None:
        self.left = total

    def take(self, wanted: Any) -> int:
        """So much of it, if there is so much."""
        taken = min(plain_count(wanted) or 0, self.left)
        self.left -= taken
        return taken


def plain_split(raw: dict[str, Any]) -> Usage | None:
    """In the order in which details are believed: each takes of its total what is left of it."""
    read, written = plain_count(raw.get("prompt_tokens")), plain_count(raw.get("completion_tokens"))
    if read is None and written is None:
        return None
    told = raw.get("prompt_tokens_details")
    told = told if isinstance(told, dict) else {}
    places = (told.get("cached_tokens"), raw.get("prompt_cache_hit_tokens"), raw.get("cached_tokens"))
    of_input = Rest(read or 0)
    cached = of_input.take(next((each for each in places if each is not None), None))
    write, audio_in, image_in = (
        of_input.take(told.get(f"{kind}_tokens")) for kind in ("cache_write", "audio", "image")
    )
    beyond = max(0, (plain_count(raw.get("total_tokens")) or 0) - (read or 0) - (written or 0))
    told = raw.get("completion_tokens_details")
    told = told if isinstance(told, dict) else {}
    of_output = Rest((written or 0) + beyond)
    reasoning = of_output.take(max(plain_count(told.get("reasoning_tokens")) or 0, beyond))
    audio_out, image_out = (of_output.take(told.get(f"{kind}_tokens")) for kind in ("audio", "image"))
    return Usage(
        input=of_input.left, cached_input=cached, cache_write=write, audio_in=audio_in, image_in=image_in,
        output=of_output.left, reasoning=reasoning, audio_out=audio_out, image_out=image_out,
    )  # fmt: skip


@st.composite
def usages(draw: st.DrawFn) -> dict[str, Any]:
    """Most of what there can be; odd, now and then."""
    found = st.integers(0, 60) if draw(st.booleans()) else st.integers(0, 60) | ODD

    def some_of(*names: str) -> dict[str, Any]:
        return {name: draw(found) for name in names if draw(st.integers(0, 4))}

    raw = some_of("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "prompt_cache_hit_tokens")
    details_in = some_of("cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens")
    details_out = some_of("reasoning_tokens", "audio_tokens", "image_tokens")
    details = {"prompt_tokens_details": details_in, "completion_tokens_details": details_out}
    return raw | {name: each if draw(st.integers(0, 4)) else draw(ODD) for name, each in details.items()}


@settings(max_examples=300)
@given(usages())
def test_a_usage_is_split(raw: dict[str, Any]) -> None:
    """However inconsistent it is: the same fields, none of them negative."""
    found = split(raw, "prompt_tokens", "completion_tokens")
    assert found == plain_split(raw)
    assert found is None or min(found.counts().values(), default=0) >= 0


# -- what is set aside -------------------------------------------------------------------------------------------------


def nano(femto: int) -> int:
    """Rounded up, and at the most what an account can have."""
    whole, part = divmod(femto, 10**6)
    return min(whole + (part > 0), MOST_NANOUSD)


def plain_bound(ask: Ask, tariff: Tariff) -> tuple[int, int, int]:
    """(likely, most, the likely input's part), one sum after the other."""
    rate = tariff.rate_femto
    text = max(0, ask.input_bytes)
    tokens = (max(0, text - ask.media_bytes) + 3) // 4 + ask.likely_extra_tokens
    most, likely = text * tariff.dearest_input_femto, tokens * rate("input")
    if ask.extra_tokens or ask.open_input:
        extra = ask.extra_tokens
        if ask.open_input:
            extra = max(extra, (tariff.context_tokens or 2_000_000) - text)
        most += extra * max(tariff.dearest_input_femto, rate("image_in")) + ask.searches * rate("searches")
    written = 0
    if ask.operation != "embeddings":
        bounds = [ask.max_output_tokens] if (ask.max_output_tokens or 0) > 0 else []
        bounds += [tariff.max_output_tokens] if tariff.max_output_tokens is not None else []
        written = min(bounds) if bounds else tariff.context_tokens or 1_000_000
    choices = max(1, ask.choices)
    most += written * choices * tariff.dearest_output_femto
    fee = rate("requests") if any(rates.femto[-1] for steps in tariff.steps.values() for rates in steps) else 0
    most, likely = most + fee, likely + fee
    if ask.seconds or ask.characters or ask.images:
        units = ask.characters * rate("characters") + ask.images * rate("images")
        for_s = [max(each, tariff.least_seconds) if each else 0 for each in (ask.seconds, ask.likely_seconds)]
        most, likely = most + units + for_s[0] * rate("seconds"), likely + units + for_s[1] * rate("seconds")
    else:
        likely += min(written, LIKELY_OUTPUT_TOKENS) * min(choices, LIKELY_CHOICES) * rate("output")
    return nano(likely), max(nano(likely), nano(most)), nano(tokens * rate("input"))


MODELS = [
    ("openai", "gpt-4o-mini"), ("openai", "gpt-image-1"), ("openai", "whisper-1"), ("openai", "tts-1"), ("openai", "never-heard-of"),
    ("anthropic", "claude-sonnet-4-5"), ("google", "gemini-2.5-pro"), ("perplexity", "sonar"), ("self-hosted", "mine"),
]  # fmt: skip
NUMBERS = st.integers(0, 10**5) | st.sampled_from([0, 1, 10**9, 10**20])


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    """Of any dialect."""
    names = (
        "media_bytes", "extra_tokens", "likely_extra_tokens", "searches", "seconds", "likely_seconds", "characters", "images",
    )  # fmt: skip
    more = {name: draw(NUMBERS) for name in draw(st.sets(st.sampled_from(names)))}
    return Ask(
        operation=draw(st.sampled_from(["chat", "embeddings", "transcription"])),
        metered=True,
        choices=draw(st.integers(-2, 300)),
        max_output_tokens=draw(st.none() | st.integers(-1, 5) | NUMBERS),
        input_bytes=draw(NUMBERS),
        open_input=draw(st.booleans()),
        **more,
    )


@st.composite
def tariffs(draw: st.DrawFn) -> Tariff:
    """Of the book, of models without a price too; or with rates that are no whole nano-dollars."""
    if draw(st.booleans()):
        provider, model = draw(st.sampled_from(MODELS))
        return BOOK.charge(provider, "", model, AT)
    rates = [Rates(tuple(draw(st.integers(0, 3_000_001)) for _ in UNITS), above) for above in (-1, 1000)]
    limits = st.none() | st.integers(0, 10**6)
    return Tariff(
        "row", "book", {"": (rates[0],), "flex": tuple(rates)}, least_seconds=draw(st.integers(0, 9)),
        context_tokens=draw(limits), max_output_tokens=draw(limits),
    )  # fmt: skip


@given(asks(), tariffs())
def test_a_bound(ask: Ask, tariff: Tariff) -> None:
    """Of every kind of model."""
    found = bound(ask, tariff)
    assert (found.likely_nanousd, found.most_nanousd, found.likely_input_nanousd) == plain_bound(ask, tariff)
    assert found.output_femto == tariff.rate_femto("output")


# -- what is remembered ------------------------------------------------------------------------------------------------

CALLERS = st.builds(
    Caller,
    team=NAMED, user=NAMED, agent=NAMED, key_name=NAMED, correlation_id=NAMED,
    tags=st.sampled_from([(), (("env", "a"),), (("env", "b"), ("x", "y"))]),
    limits=st.sampled_from([(), ((5, "day", "user"),), ((7, "call", "team"), (9, "hour", "agent"))]),
)  # fmt: skip
WAYS = st.builds(
    Facts,
    model=st.sampled_from(["gpt-4o", "gpt-4o-mini", "x"]),
    provider=NAMED,
    upstream=st.sampled_from(["up", "down"]),
)
SCOPES = [
    "global", "team:*", "team:a", "user:*", "user:b", "agent:*", "key:a", "tag:env=*", "tag:env=a", "model:gpt-4o*", "upstream:up",
    "provider:*", "team:a+user:*", "team:*+model:gpt-4o", "request", "call", "team:*+request",
]  # fmt: skip
ZONES = ["UTC", "Europe/Berlin", "Australia/Lord_Howe"]


@st.composite
def budgets(draw: st.DrawFn) -> list[Budget]:
    """Of all kinds."""
    found = []
    for number, scope in enumerate(draw(st.lists(st.sampled_from(SCOPES), max_size=8))):
        window = draw(st.sampled_from(["hour", "day", "week", "month", "total"]))
        mode = draw(st.sampled_from(["shadow", "soft", "hard", "strict"]))
        limit, zone, first = draw(st.integers(0, 9)), draw(st.sampled_from(ZONES)), draw(st.sampled_from([0, 6]))
        found.append(Budget(f"b{number}", scope, limit, window, mode, zone, first, cut=draw(st.booleans())))
    return found


@settings(max_examples=300)
@given(
    budgets(),
    st.lists(st.tuples(CALLERS, WAYS), min_size=1, max_size=4),
    st.lists(MOMENTS, min_size=1, max_size=3),
    st.integers(0, 9),
)
def test_what_a_ledger_remembers_changes_no_claim(
    named: list[Budget], callers: list[tuple[Caller, Facts]], moments: list[int], forgiven: int
) -> None:
    """Callers come again and time goes on, or back: each gets what a ledger says that has seen nobody."""
    reset = dict.fromkeys(FORGIVEN, forgiven)
    old = Ledger(named, reset)
    for now in [*moments, *reversed(moments)]:
        for caller, way in callers:
            fresh = Ledger(named, reset)
            facts = way if fresh.asks_more else None
            claims = old.claims(caller, now, 3, 8, facts)
            assert claims == fresh.claims(caller, now, 3, 8, facts)
            assert old.over_ceiling(caller, 3, 8, facts) == fresh.over_ceiling(caller, 3, 8, facts)
            assert all(each.resets_at == 0 or each.resets_at > now for each in claims)


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.sampled_from(SCOPES[:-3]), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), max_size=6),
    st.lists(st.tuples(CALLERS, WAYS, st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=5),
)  # fmt: skip
def test_what_limits_remember_changes_no_use(
    told: list[tuple[str, int, int, int]], calls: list[tuple[Caller, Facts, int, int]]
) -> None:
    """The same of requests, tokens and places."""
    named = [Limit(f"l{number}", *each) for number, each in enumerate(told)]
    old = Limits(named)
    for caller, way, read, written in [*calls, *reversed(calls)]:
        assert old.uses(caller, way, read, written) == Limits(named).uses(caller, way, read, written)


RULES = (Rule("one", model="gpt-*"), Rule("two", path="/v1/messages"), Rule("three", path="/v1/chat", model="m?"))
UPSTREAMS = {"one": ("openai", "/v1"), "two": ("anthropic", ""), "three": ("openai", "/base")}
TARGETS = st.sampled_from(
    [
        "/v1/chat/completions", "/v1/chat/completions?key=a", "/v1/messages", "/v1/messagesx", "/one/v1/x", "/two", "/three?x",
        "/four/v1", "*", "/v1", "/v1?x",
    ]
)  # fmt: skip


@given(st.lists(st.tuples(TARGETS, st.sampled_from(["gpt-4o", "m1", "", "other"])), min_size=1, max_size=8))
def test_what_routes_remember_changes_no_way(calls: list[tuple[str, str]]) -> None:
    """Nor which paths are nobody's."""

    def way(routes: Routes, target: str, model: str) -> Any:
        try:
            place = routes.place(target)
            return place, routes.choose(place, model)
        except Failure as failure:
            return failure.kind

    old = Routes(RULES, UPSTREAMS)
    for target, model in [*calls, *reversed(calls)]:
        assert way(old, target, model) == way(Routes(RULES, UPSTREAMS), target, model)


@given(st.floats(0, 253_402_300_799) | MOMENTS)
def test_hours_and_seconds_are_named_as_the_calendar_does(now: float) -> None:
    """Whatever was named before."""
    moment = datetime.fromtimestamp(int(now), UTC)
    assert hour_of(now) == moment.strftime("%Y-%m-%dT%H")
    assert timestamp(now)[:19] == moment.strftime("%Y-%m-%dT%H:%M:%S")


# -- what is booked ----------------------------------------------------------------------------------------------------

ACCOUNTS = [Account("team:a", "day"), Account("global", "total")]


@given(
    st.lists(st.tuples(st.sampled_from(ACCOUNTS), st.integers(0, 9)), max_size=6),
    st.lists(st.sampled_from(ACCOUNTS), min_size=1, max_size=3),
    st.sampled_from([-9, 0, 5, 6, 9]),
    st.sampled_from([(0, 7), (MAX_BALANCE_NANOUSD - 5, 7), (7, MAX_BALANCE_NANOUSD - 5)]),
)
def test_accounts_move_together_or_not_at_all(
    claimed: list[tuple[Account, int]], charged: list[Account], cost: int, at_first: tuple[int, int]
) -> None:
    """Each balance is the sum of what came to it; one that leaves what can be counted leaves all as they were. A charge comes to an
    account once, however often it is named; a hold that is struck gives back what it took.
    """
    page = Page(0.0, "me", {tuple(account): Line(*account, *at_first) for account in ACCOUNTS})
    spent, held = (dict.fromkeys(ACCOUNTS, each) for each in at_first)
    before, moved = held, set()
    reserve = Reserve("call", tuple([Claim(account, amount) for account, amount in claimed]))
    with pytest.raises(Failure) if not fits(held, claimed) else nullcontext():
        reserve.apply(page)
        held = summed(held, claimed)
        moved.update(reserve.accounts)
    assert balances_of(page) == (spent, held)
    once = [(account, cost) for account in set(charged)]
    with pytest.raises(Failure) if not fits(spent, once) else nullcontext():
        page.charge(charged, cost)
        spent = summed(spent, once)
        moved.update(charged)
    assert balances_of(page) == (spent, held)
    assert page.changed_lines == {page.lines[account] for account in moved}
    page.drop("call")
    assert balances_of(page) == (spent, before)
    assert page.changed_lines == {page.lines[account] for account in moved}


def summed(balances: dict[Account, int], more: list[tuple[Account, int]]) -> dict[Account, int]:
    return {
        account: each + sum(amount for name, amount in more if name == account) for account, each in balances.items()
    }


def fits(balances: dict[Account, int], more: list[tuple[Account, int]]) -> bool:
    return max(summed(balances, more).values()) <= MAX_BALANCE_NANOUSD


def balances_of(page: Page) -> tuple[dict[Key, int], dict[Key, int]]:
    lines = page.lines
    return {key: line.spent for key, line in lines.items()}, {key: line.held for key, line in lines.items()}
