"""Who asks: names are taken as they are or refused; correlation ids are taken or replaced."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.identity import identify
from gateway.call import Caller
from gateway.errors import Kind, Refusal
from gateway.wire.headers import noted

TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = b"00-" + TRACE + b"-00f067aa0ba902b7-01"
NAMES = (b"x-tollgate-team", b"x-tollgate-user", b"x-tollgate-agent", b"x-tollgate-call-type")


def caller(*headers: tuple[bytes, bytes]) -> Caller:
    found = identify(noted(headers), "new-id")
    assert isinstance(found, Caller), found
    return found


def refused(*headers: tuple[bytes, bytes]) -> Refusal:
    found = identify(noted(headers), "new-id")
    assert isinstance(found, Refusal), found
    assert found.kind is Kind.MALFORMED_HEADER
    return found


def test_all_fields_are_read_whatever_the_case_of_their_names():
    """Header names do not depend on case; everything lands in its field."""
    assert caller(
        (b"Host", b"x"), (b"X-Tollgate-Team", b"search"), (b"x-tollgate-USER", b"u 1"), (b"x-tollgate-agent", b"planner"),
        (b"x-tollgate-call-type", b"routing"), (b"x-tollgate-tags", b"env=prod, tier=2"), (b"x-correlation-id", b"c-1"),
        (b"traceparent", PARENT),
    ) == Caller(
        team="search", user="u 1", agent="planner", call_type="routing", correlation_id="c-1", trace_id=TRACE.decode(),
        parent_span_id="00f067aa0ba902b7", sampled="1",
        tags=(("env", "prod"), ("tier", "2")),
    )  # fmt: skip


def test_a_call_without_any_header_is_nobodys():
    """Nothing is guessed; the fresh id ties the call to itself."""
    assert caller((b"host", b"x")) == Caller(correlation_id="new-id")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "value",
    [
        b"a\nb",
        b"a\rb",
        b"a\x00b",
        b"a\tb",
        b"\x7f",
        b"x" * 129,
        b"x" * 10_240,
        b"\xff",
        b"e\xcc\x81",
        "\u202ea".encode(),
    ],
)
def test_a_name_that_is_unclean_is_refused_and_never_shortened(name, value):
    """It decides who pays: control characters, other than UTF-8, combining marks and 129 characters are refused."""
    refusal = refused((name, value))
    assert name.decode() in refusal.message
    assert "xxx" not in refusal.message


@pytest.mark.parametrize("value", [b"x" * 128, b"a", b"a b", "équipe-日本".encode(), b"a/b:c*d,e=f;g"])
def test_printable_ascii_and_letters_of_any_script_are_names(value):
    """128 characters of them."""
    assert caller((b"x-tollgate-team", value)).team == value.decode()


def test_white_space_around_a_value_is_not_part_of_it():
    """RFC 9110 5.5; a blank value is an absent one."""
    assert caller((b"x-tollgate-team", b" \tsearch ")).team == "search"
    assert caller((b"x-tollgate-team", b"  ")).team == ""
    assert caller((b"x-tollgate-team", b"")).team == ""


@pytest.mark.parametrize("name", NAMES)
def test_a_name_twice_must_be_the_same_name(name):
    """Two purses for one call are refused; the same one twice is no matter."""
    assert "more than once" in refused((name, b"a"), (name.upper(), b"b")).message
    assert "more than once" in refused((name, b"a"), (name, b"")).message
    assert isinstance(identify(noted(((name, b"a"), (name, b" a"))), "n"), Caller)


@pytest.mark.parametrize(
    "value",
    [b"a", b"a=1,b", b"=1", b"1a=1", b"a b=1", b"a=1,a=2", b"\xff=1", b"a=\x01", b"a=" + b"x" * 129, b"k" * 65 + b"=1"],
)
def test_tags_that_are_no_list_of_keys_and_values_are_refused(value):
    """A dimension that is half understood would be counted wrongly."""
    assert "x-tollgate-tags" in refused((b"x-tollgate-tags", value)).message


def test_sixteen_tags_and_no_more():
    """Empty elements of the list do not count, several fields are one list, a value may hold an equals sign."""
    sixteen = b",".join(b"k%d=v=%d" % (number, number) for number in range(16))
    first, comma, rest = sixteen.partition(b",k7")
    tags = caller((b"x-tollgate-tags", b"," + first), (b"x-tollgate-tags", comma[1:] + rest + b" ,")).tags
    assert tags == tuple((f"k{number}", f"v={number}") for number in range(16))
    assert "16" in refused((b"x-tollgate-tags", sixteen + b",more=1")).message


def test_an_unusable_correlation_id_is_replaced():
    """It only ties calls together: the next best id is taken, at last our own."""
    bad = (b"x-correlation-id", b"a\nb")
    assert caller(bad).correlation_id == "new-id"
    assert caller((b"x-correlation-id", b"x" * 129)).correlation_id == "new-id"
    assert caller(bad, (b"x-request-id", b"r-1"), (b"traceparent", PARENT)).correlation_id == "r-1"
    assert caller(bad, (b"traceparent", PARENT)).correlation_id == TRACE.decode()
    assert caller((b"x-request-id", b"r-1"), (b"x-correlation-id", b"c-1")).correlation_id == "c-1"


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        (PARENT, True),
        (PARENT.upper(), False),
        (PARENT + b"-00", False),
        (b"01" + PARENT[2:] + b"-more", True),
        (b"ff" + PARENT[2:], False),
        (b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01", False),
        (b"00-" + TRACE + b"-" + b"0" * 16 + b"-01", False),
        (PARENT[:-1], False),
        (b"garbage", False),
    ],
)
def test_only_a_valid_traceparent_gives_a_trace_id(value, valid):
    """W3C Trace Context 3.2.2: anything else is as if it were not there."""
    assert caller((b"traceparent", value)).trace_id == (TRACE.decode() if valid else "")


def test_two_traceparents_are_none():
    """Nobody knows which one is meant."""
    assert caller((b"traceparent", PARENT), (b"traceparent", PARENT)).trace_id == ""


names = st.sampled_from((*NAMES, b"x-tollgate-tags", b"x-correlation-id", b"x-request-id", b"traceparent", b"accept"))


@given(st.lists(st.tuples(names, st.binary(max_size=200)), max_size=8))
def test_whatever_is_sent_what_comes_out_is_clean(headers):
    """A Caller of short printable values, or a Refusal: nothing else, and no exception."""
    found = identify(noted(headers), "new-id")
    if isinstance(found, Refusal):
        assert found.message.isprintable()
        return
    values = [found.team, found.user, found.agent, found.call_type, found.correlation_id, found.trace_id]
    values += [part for tag in found.tags for part in tag]
    assert all(value.isprintable() and len(value) <= 128 for value in values)
    assert found.correlation_id.isascii()
    assert found.correlation_id
