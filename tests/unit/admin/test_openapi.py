"""The OpenAPI document, made from the table of routes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import pytest

from gateway.admin import schemas
from gateway.admin.openapi import document
from gateway.admin.routes import OPERATOR, VIEWER, Parameter, Route
from gateway.admin.shapes import ANNOTATIONS, KEYWORDS
from gateway.call import Record
from tests.harness.listener import listener

ROUTES = listener().api


def within(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """It and all that it is made of."""
    yield schema
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), Mapping):
            yield from within(schema[keyword])
    for each in [*schema.get("properties", {}).values(), *schema.get("anyOf", [])]:
        yield from within(each)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_declares_what_goes_in_and_out(route: Route) -> None:
    """With keywords that are checked: one that is not would promise what nobody holds."""
    assert route.answers or route.media != "application/json"
    assert route.says.endswith(".")
    asked = [*(each.schema for each in route.query), *([route.body] if route.body is not None else [])]
    for schema in asked:
        for each in within(schema):
            assert set(each) <= set(KEYWORDS) | ANNOTATIONS
            if each.get("type") == "object" and schema is route.body:
                assert "additionalProperties" in each


def test_every_field_of_a_record_is_in_the_document() -> None:
    """Whoever adds one adds its shape."""
    told = set(schemas.RECORD["properties"])
    assert told == {each.name for each in fields(Record)} | {"cost_usd", "held_usd"}


def test_a_change_says_what_it_takes_and_how_it_may_fail() -> None:
    """Roles, the body, parameters, and every status that the checks before it answer with; a titled schema stands there once."""
    thing = schemas.shape("Thing", {"name": schemas.TEXT})
    takes = schemas.body("NewThing", {"name": schemas.TEXT}, required=("name",))
    query = (Parameter("team", "Whose.", repeated=True),)
    made = document(
        [
            Route(
                "PUT",
                "/api/v1/things/{name}",
                OPERATOR,
                None,
                "Makes one.",
                body=takes,
                answers={200: thing, 201: thing},
            ),  # type: ignore[arg-type]
            Route("GET", "/api/v1/things/{name}", VIEWER, None, "One.", query, answers={200: thing}),  # type: ignore[arg-type]
        ]
    )
    put, get = (made["paths"]["/api/v1/things/{name}"][each] for each in ("put", "get"))
    assert (put["x-role"], get["x-role"], put["operationId"]) == ("operator", "viewer", "put_api_v1_things_name")
    assert put["requestBody"]["required"] is True
    assert put["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/NewThing"}
    assert {"200", "201", "401", "403", "404", "409", "412", "413", "415", "422", "429"} <= set(put["responses"])
    assert "304" in get["responses"]
    assert not {"409", "412", "422"} & set(get["responses"])
    assert [(each["name"], each["in"], each["required"]) for each in get["parameters"]] == [
        ("name", "path", True),
        ("team", "query", False),
    ]
    assert set(made["components"]["schemas"]) == {"Error", "NewThing", "Problem", "Thing"}
    assert made["components"]["schemas"]["NewThing"]["properties"].keys() == {"name", "reason"}


def test_two_schemas_of_one_name_are_found_out() -> None:
    """Else one of them would stand for both."""
    two = [schemas.shape("Thing", {"name": each}) for each in (schemas.TEXT, schemas.COUNT)]
    routes = [Route("GET", f"/{at}", VIEWER, None, "One.", answers={200: each}) for at, each in enumerate(two)]  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Thing"):
        document(routes)
