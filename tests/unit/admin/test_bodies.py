"""Bodies of changes: what a route's schema says is what is taken; every fault is told with its field, and no value with it."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import Any

import jsonschema_rs
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.admin.answers import Refused
from gateway.admin.bodies import MAX_BODY_BYTES, body_of, etag_of, expect_version
from gateway.admin.shapes import ANNOTATIONS, KEYWORDS, MAX_FAULTS, TYPES, faults

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 5, "pattern": "^[a-z]+$"},
        "limit_usd": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 9},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2, "uniqueItems": True},
        "mode": {"type": "string", "enum": ["hard", "soft"]},
        "budget": {"type": "object", "properties": {"count": {"type": "integer", "minimum": 1, "maximum": 3}}},
        "either": {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 5}]},
    },
}

scalars = st.none() | st.booleans() | st.integers(-3, 12) | st.sampled_from([0.5, 2.0, 9.5]) | st.text(max_size=7)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*SCHEMA["properties"], "count"]), inner)
    ),
)
near_misses = st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "abc", "", "Ab", "abcdef", "ab\n"]) | scalars},
    optional={
        "limit_usd": scalars,
        "tags": st.lists(scalars | st.sampled_from(["a", "b"]), max_size=3),
        "mode": st.sampled_from(["hard", "soft", "sofd"]) | scalars,
        "budget": st.fixed_dictionaries({}, optional={"count": scalars, "more": scalars}),
        "either": scalars,
        "other": scalars,
    },
)


@settings(max_examples=600, deadline=None)
@given(values | near_misses)
def test_what_is_right_is_what_json_schema_calls_valid(value: Any) -> None:
    """Held against another implementation, of the whole of JSON Schema 2020-12."""
    assert (not faults(SCHEMA, value)) == jsonschema_rs.Draft202012Validator(SCHEMA).is_valid(value)


KEYWORD_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "type": st.sampled_from(sorted(TYPES)) | st.just(["string", "null"]),
    "enum": st.lists(scalars, min_size=1, max_size=3),
    "properties": st.dictionaries(st.sampled_from("ab"), st.just({"type": "string"})),
    "additionalProperties": st.booleans() | st.just({"type": "integer"}),
    "required": st.lists(st.sampled_from("ab"), max_size=2, unique=True),
    "items": st.just({"type": "integer"}),
    "minItems": st.integers(0, 2),
    "maxItems": st.integers(0, 2),
    "minLength": st.integers(0, 3),
    "maxLength": st.integers(0, 3),
    "pattern": st.sampled_from(["^a", "a$", "^[ab]*$"]),
    "minimum": st.integers(-2, 5),
    "maximum": st.integers(-2, 5),
    "exclusiveMinimum": st.integers(-2, 5),
    "anyOf": st.just([{"type": "string"}, {"minimum": 2}]),
}


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_every_keyword_means_what_it_means_in_json_schema(data: st.DataObject) -> None:
    """Two keywords at a time, on any value."""
    names = data.draw(st.lists(st.sampled_from(sorted(KEYWORD_VALUES)), min_size=1, max_size=2, unique=True))
    schema = {name: data.draw(KEYWORD_VALUES[name]) for name in names}
    value = data.draw(
        scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.sampled_from("abc"), scalars) | st.text("ab\n")
    )
    assert (not faults(schema, value)) == jsonschema_rs.Draft202012Validator(schema).is_valid(value)
    assert set(KEYWORD_VALUES) | {"uniqueItems"} == set(KEYWORDS)
    assert not set(KEYWORDS) & ANNOTATIONS


def test_each_fault_names_its_field_and_repeats_no_value() -> None:
    """As the config's problems do; a slip gets the word that was meant."""
    wrong = {
        "nam": "zqsecretzq",
        "limit_usd": 10,
        "tags": ["a", 1, "zqsecretzq"],
        "mode": "sofd",
        "budget": {"count": 0},
        "either": 2,
    }
    found = {each.field: each.message for each in faults(SCHEMA, wrong)}
    assert found == {
        "": "holds a field that does not belong there; did you mean name?",
        "name": "is missing",
        "limit_usd": "is above 9",
        "tags": "must hold at most 2",
        "tags[1]": "must be a text",
        "mode": "must be one of hard, soft; did you mean soft?",
        "budget.count": "must be from 1 to 3",
        "either": "is below 5",
    }
    assert len(faults({"items": {"type": "null"}}, list(range(1000)))) == MAX_FAULTS


async def _asked(raw: bytes, schema: Any = SCHEMA, headers: Any = None) -> tuple[int, Any]:
    taken: list[Any] = []

    async def handler(request: web.Request) -> web.Response:
        try:
            taken.append(await body_of(request, schema))
        except Refused as refused:
            return refused.answer()
        return web.Response()

    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_post("/", handler)
    async with (
        TestClient(TestServer(app)) as client,
        client.post(
            "/", data=io.BytesIO(raw), headers={"Content-Type": "application/json", **(headers or {})}
        ) as response,
    ):
        return response.status, taken[0] if taken else (await response.json())["error"]


async def test_a_body_that_is_right_is_handed_over_with_exact_numbers() -> None:
    """Money may be among them: no float."""
    assert await _asked(b'{"name": "a", "limit_usd": 0.1}') == (200, {"name": "a", "limit_usd": Decimal("0.1")})
    status, body = await _asked(b'{"name": "a", "limit_usd": 2.0}')
    assert (status, body["limit_usd"], type(body["limit_usd"])) == (200, 2, int)
    assert await _asked(b"", {"type": "object"}) == (200, {})


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"[]",
        b'"a"',
        b"null",
        b'{"name": NaN}',
        b'{"name": "a", "name": "b"}',
        b'{"name": "\\ud800"}',
        b'\xff{"name": "a"}',
        b'{"name": ' + b"[" * 100_000,
        b'{"name": "a", "limit_usd": ' + b"9" * 5000 + b"}",
        b'{"name": "a", "limit_usd": 1e99999999999999999999}',
        b'{"name": "a", "limit_usd": 1e999999999}',
        b'{"name": "a", "budget": {"count": 1e999999}}',
        b"",
    ],
)
async def test_what_is_no_such_object_is_refused(raw: bytes) -> None:
    """422 with problems, whatever it is, and at once."""
    status, error = await _asked(raw)
    assert (status, error["status"]) == (422, 422)
    assert error["problems"]
    assert all(set(each) == {"field", "message"} for each in error["problems"])


async def test_a_large_body_is_read_beside_the_loop_and_a_larger_one_not_at_all() -> None:
    """1 MiB is the most."""
    status, body = await _asked(json.dumps({"text": "x" * (MAX_BODY_BYTES - 100)}).encode(), {"type": "object"})
    assert (status, len(body["text"])) == (200, MAX_BODY_BYTES - 100)
    status, error = await _asked(b" " * (MAX_BODY_BYTES + 1))
    assert (status, error["message"]) == (413, "a body has at most 1048576 bytes")


@pytest.mark.parametrize(
    ("field", "version", "passes"),
    [
        (None, 3, True),
        (None, None, True),
        ('"v3"', 3, True),
        ('"v2", "v3"', 3, True),
        ("*", 3, True),
        ('"v2"', 3, False),
        ('W/"v3"', 3, False),
        ('"v3"', None, False),
        ("*", None, False),
        ('"vNone"', None, False),
    ],
)
async def test_if_match_lets_a_change_pass_only_on_what_it_was_made_for(
    field: str | None, version: int | None, passes: bool
) -> None:
    """RFC 9110 13.1.1, strong comparison."""

    async def handler(request: web.Request) -> web.Response:
        try:
            expect_version(request, version)
        except Refused as refused:
            return refused.answer()
        return web.Response(headers={"ETag": etag_of(version or 0)})

    app = web.Application()
    app.router.add_put("/", handler)
    async with (
        TestClient(TestServer(app)) as client,
        client.put("/", headers={"If-Match": field} if field else {}) as response,
    ):
        assert response.status == (200 if passes else 412)
