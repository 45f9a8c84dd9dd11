"""Gateway keys: the right one passes, whatever is changed of it does not, and each lets through what its entry says."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.identity import identify
from gateway.admission.keys import FIELDS, FORM, Key, Keys, hash_of, patterns
from gateway.call import Ask, Caller
from gateway.errors import Kind, Refusal
from gateway.wire.headers import CREDENTIALS, noted

TEXT = "tg-0123456789abcdefghijABCDEFGHIJ01"
OTHER = "tg-ABCDEFGHIJabcdefghij0123456789ABCDEFGHIJ"


def key(name: str = "search", text: str = TEXT, **more: Any) -> Key:
    return Key(name, bytes.fromhex(hash_of(text).removeprefix("sha256:")), **more)


KEYS = Keys([key(), key("other", OTHER)])


def found(*headers: tuple[bytes, bytes], query: tuple[str, ...] = ()) -> Key | Refusal:
    return KEYS.find(noted(headers), query)


def refused(*headers: tuple[bytes, bytes], query: tuple[str, ...] = ()) -> str:
    answer = found(*headers, query=query)
    assert isinstance(answer, Refusal), answer
    assert answer.kind is Kind.AUTHENTICATION
    for _, value in headers:
        for part in value.decode("latin-1").split():
            assert len(part) < 8 or part not in answer.message
    return answer.message


def bearer(text: str = TEXT, scheme: bytes = b"Bearer") -> tuple[bytes, bytes]:
    return b"Authorization", scheme + b" " + text.encode()


# -- which key ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", sorted(FIELDS))
@pytest.mark.parametrize("spelling", [bytes.lower, bytes.upper, bytes.title])
def test_a_key_is_found_where_sdks_put_theirs(field: bytes, spelling: Any) -> None:
    """In any case, with white space around it, among other fields."""
    value = f"bEARER  {TEXT} " if field == b"authorization" else f" {TEXT}\t"
    answer = found((b"Accept", b"*/*"), (spelling(field), value.encode()), (b"x-other", b"1"))
    assert answer == key()


def test_every_field_that_can_hold_a_key_is_replaced_on_the_way() -> None:
    """Two lists in two rooms that may not know each other: a field that is read and not replaced would carry the key upstream."""
    assert FIELDS == CREDENTIALS


def test_a_key_is_found_in_the_query() -> None:
    """As Gemini has it; the handler says for which routes."""
    assert found(query=(OTHER,)) == key("other", OTHER)


def test_the_same_key_twice_is_one_key_and_two_are_none() -> None:
    """Claude Code sends both of its fields; two callers in one request are nobody."""
    assert found(bearer(), (b"x-api-key", TEXT.encode()), query=(TEXT,)) == key()
    assert "several" in refused(bearer(), (b"x-api-key", OTHER.encode()))
    assert "several" in refused(bearer(), query=(OTHER,))
    assert "several" in refused((b"api-key", b"sk-of-a-provider"), bearer())
    assert found(bearer(), (b"x-api-key", b"")) == key()


def test_what_is_missing_is_said() -> None:
    """Nothing, a provider's key, a key that is not known: three different mistakes."""
    assert "has none" in refused((b"accept", b"*/*"))
    assert "has none" in refused((b"authorization", b"Bearer "))
    assert "begin with tg-" in refused(bearer("sk-proj-of-a-provider"))
    assert "begin with tg-" in refused((b"authorization", f"Basic {TEXT}".encode()))
    assert "does not know" in refused(bearer(TEXT[:-1] + "2"))


def test_without_any_keys_nobody_passes() -> None:
    """The last one may be revoked."""
    assert isinstance(Keys([]).find(noted((bearer(),))), Refusal)


@given(st.sampled_from((TEXT, OTHER)), st.data())
def test_a_key_with_any_byte_changed_is_refused(text: str, data: st.DataObject) -> None:
    """One byte replaced, left out or put in, anywhere."""
    raw = text.encode()
    at = data.draw(st.integers(0, len(raw) - 1))
    new = data.draw(st.integers(0x21, 0xFF).map(lambda code: bytes((code,))))
    for changed in (raw[:at] + new + raw[at + 1 :], raw[:at] + raw[at + 1 :], raw[:at] + new + raw[at:], raw + new):
        if changed != raw:
            assert isinstance(found((b"x-api-key", changed)), Refusal)


@given(st.one_of(st.binary(max_size=200), st.from_regex(FORM, fullmatch=True)))
def test_nothing_but_the_right_keys_passes(value: bytes) -> None:
    """Arbitrary bytes, and whatever has the form of a key."""
    answer = found((b"x-api-key", value))
    assert isinstance(answer, Refusal) == (value.strip(b" \t") not in (TEXT.encode(), OTHER.encode()))


@given(st.sampled_from(sorted(FIELDS)), st.binary(max_size=60))
def test_a_refusal_quotes_nothing_of_what_was_sent(field: bytes, value: bytes) -> None:
    """It says what to do, in words that are always the same."""
    answer = found((field, b"tg-" + value))
    assert isinstance(answer, Refusal)
    assert answer.message in {refused(), refused(bearer("x")), refused(bearer(TEXT + "0"))}


def test_no_repr_shows_a_hash() -> None:
    """Not that it would help anybody."""
    shown = f"{key()!r} {KEYS!r} {Keys([key()])}"
    assert TEXT not in shown
    assert repr(key().digest) not in shown
    assert key().digest.hex() not in shown


# -- what it may do -------------------------------------------------------------------------------------------------------


def test_a_key_is_refused_from_the_second_it_expires() -> None:
    """Not before."""
    short = key(expires_at=1_800_000_000)
    assert short.refuse(1_799_999_999.999, "") is None
    for at in (1_800_000_000.0, 1_800_000_001.0):
        refusal = short.refuse(at, "")
        assert refusal is not None
        assert refusal.kind is Kind.AUTHENTICATION
        assert "expired at 2027-01-15T08:00:00Z" in refusal.message
    assert key().refuse(1e12, "") is None


@pytest.mark.parametrize(
    ("address", "may"),
    [
        ("10.1.2.3", True), ("10.2.0.0", False), ("::ffff:10.1.2.3", True), ("2001:db8::1", True), ("2001:db9::1", False),
        ("fe80::1%eth0", True), ("", False), ("unix", False),
    ],
)  # fmt: skip
def test_a_key_with_networks_is_good_in_them_only(address: str, may: bool) -> None:
    """An IPv4 address over an IPv6 socket is an IPv4 address; who has no address is nowhere."""
    networks = tuple(ip_network(each) for each in ("10.1.0.0/16", "2001:db8::/32", "fe80::/10"))
    refusal = key(networks=networks).refuse(0, address)
    assert (refusal is None) == may
    assert refusal is None or refusal.kind is Kind.PERMISSION


@pytest.mark.parametrize(
    ("model", "may"), [("gpt-4o", True), ("o4-mini", True), ("o4-mini-x", False), ("GPT-4o", False), ("xgpt-4o", False),
                       ("claude-haiku-4-5", False)],
)  # fmt: skip
def test_models_are_patterns(model: str, may: bool) -> None:
    """Of the whole name; upper and lower case differ."""
    limited = key(models=patterns(["gpt-*", "o4-mini"]))
    refusal = limited.forbid(Ask("chat", metered=True, model=model), "openai", may_spend=True)
    assert (refusal is None) == may
    assert refusal is None or (refusal.kind is Kind.PERMISSION and model in refusal.message)


def test_a_model_that_cannot_be_read_could_be_any() -> None:
    """Of what may cost something; a list of models costs nothing."""
    limited, free = key(models=patterns(["gpt-*"])), key(models=patterns(["*"]))
    unknown, broken = Ask("", metered=False), Ask("chat", metered=True, fault="it is no JSON")
    assert limited.forbid(unknown, "openai", may_spend=False) is None
    assert free.forbid(unknown, "openai", may_spend=True) is None
    assert key().forbid(unknown, "openai", may_spend=True) is None
    kinds = [refusal.kind for each in (unknown, broken) if (refusal := limited.forbid(each, "x", may_spend=True))]
    assert kinds == [Kind.PERMISSION, Kind.MALFORMED_BODY]


def test_upstreams_are_names() -> None:
    """Whatever the call costs."""
    limited = key(upstreams=frozenset(("openai",)))
    assert limited.forbid(Ask("", metered=False), "openai", may_spend=False) is None
    refusal = limited.forbid(Ask("", metered=False), "azure", may_spend=False)
    assert refusal is not None
    assert refusal.kind is Kind.PERMISSION


# -- who asks with it -----------------------------------------------------------------------------------------------------

OWNED = key(team="search", user="ann")


def test_team_and_user_of_a_key_are_the_callers() -> None:
    """With and without other fields."""
    mine = {"team": "search", "user": "ann", "key_name": "search"}
    assert identify({}, "n", OWNED) == Caller(correlation_id="n", **mine) == OWNED.caller("n")
    assert identify(noted(((b"x-tollgate-agent", b"a"),)), "n", OWNED) == Caller(correlation_id="n", agent="a", **mine)
    same = ((b"x-tollgate-team", b" search"), (b"x-tollgate-user", b""))
    assert identify(noted(same), "n", OWNED) == Caller(correlation_id="n", **mine)


@pytest.mark.parametrize("field", ["team", "user"])
def test_another_name_than_the_keys_is_refused(field: str) -> None:
    """In words without it."""
    answer = identify(noted(((f"x-tollgate-{field}".encode(), b"somebody-else"),)), "n", OWNED)
    assert isinstance(answer, Refusal)
    assert answer.kind is Kind.PERMISSION
    assert f"x-tollgate-{field}" in answer.message
    assert "somebody-else" not in answer.message


def test_what_a_key_does_not_name_is_the_callers_to_say() -> None:
    """An app with a key of its own names its users."""
    headers = ((b"x-tollgate-team", b"t"), (b"x-tollgate-user", b"u"))
    assert identify(noted(headers), "n", key()) == Caller(team="t", user="u", key_name="search", correlation_id="n")
    half = identify(noted(headers[1:]), "n", key(team="search"))
    assert half == Caller(team="search", user="u", key_name="search", correlation_id="n")


def test_a_wish_without_a_scope_is_about_the_user_of_the_key() -> None:
    """As if the header had named it."""
    caller = identify(noted(((b"x-tollgate-budget", b"2/day"),)), "n", OWNED)
    assert isinstance(caller, Caller)
    assert caller.limits == ((2_000_000_000, "day", "user"),)
