"""The log: one line a call with the names of the call record, the gateway's own messages beside it, no secret in either."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import fields, replace

import pytest

from gateway.call import Call, Record
from gateway.observe.logs import MASK, CallLog, setup
from gateway.settle import record_of

RECORD = replace(
    record_of(Call("c-1", 1_774_000_000.0, 0)), team="red", model_requested="gpt-4o-mini", status=200,
    usage={"input": 10, "output": 5}, cost_nanousd=1_500_000, latency_ms=12.25, outcome="completed",
)  # fmt: skip
SPOKEN_OF = """call_id correlation_id trace_id started_at team user agent call_type tags key_name upstream provider protocol
operation model_requested model_served stream status error_type attempts usage usage_source usage_raw cost_nanousd price_rows
pricebook service_tier held_nanousd budgets latency_ms ttft_ms overhead_ms request_bytes response_bytes config_version outcome"""

Listen = Callable[[str, str], io.StringIO]


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Sets the log up and gives what is then written; the loggers are as before when the test is over."""
    logger = logging.getLogger("gateway")
    before = (logger.handlers[:], logger.level, logger.propagate)

    def start(level: str, form: str) -> io.StringIO:
        setup(level, form)
        (handler,) = logger.handlers
        assert isinstance(handler, logging.StreamHandler)
        stream = io.StringIO()
        handler.setStream(stream)
        return stream

    yield start
    logger.handlers[:], logger.level, logger.propagate = before


def test_a_calls_line_is_its_record() -> None:
    """Every name that the record of a call has, under the name that API and store use."""
    stream = io.BytesIO()
    CallLog("json", stream).take([RECORD])
    line = json.loads(stream.getvalue())
    assert line.pop("event") == "call"
    assert set(line) == {field.name for field in fields(Record)}
    assert set(SPOKEN_OF.split()) <= set(line)
    assert (line["call_id"], line["cost_nanousd"], line["usage"]) == ("c-1", 1_500_000, {"input": 10, "output": 5})


def test_a_line_for_people_says_who_what_how_much_and_how_long() -> None:
    """In columns."""
    stream = io.BytesIO()
    CallLog("console", stream).take([RECORD, replace(RECORD, status=429, outcome="refused", error_type="budget_held")])
    first, second = stream.getvalue().decode().splitlines()
    for part in ("200 red", "gpt-4o-mini", "10 in", "5 out", "$0.0015", "12.2 ms", "completed", "c-1"):
        assert part in first
    assert "refused budget_held" in second


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcdefghijkl",
        "sk-ant-api03-abcdefgh",
        "AIzaSyA1234567890abcdefghijklmn",
        "Bearer abc.def",
        "token-abcdef",
    ],
)
def test_what_looks_like_a_key_is_masked(listen: Listen, form: str, secret: str) -> None:
    """In messages and in stacks, whatever a library put there."""
    written = listen("info", form)
    try:
        raise ValueError(f"cannot use {secret} here")
    except ValueError:
        logging.getLogger("gateway.test").exception("failed with %s", secret)
    text = written.getvalue()
    assert text.count(MASK) == 2
    assert secret.rsplit(maxsplit=1)[-1] not in text


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_message_cannot_begin_a_line_of_its_own(listen: Listen, form: str) -> None:
    """Control characters are escaped."""
    written = listen("info", form)
    logging.getLogger("gateway.test").info("a team called %s", 'x\n{"event":"call"}\r\x1b[2J')
    text = written.getvalue()
    assert text.count("\n") == 1
    assert "\x1b" not in text
    if form == "json":
        assert json.loads(text)["logger"] == "gateway.test"


def test_less_than_the_level_is_not_written(listen: Listen) -> None:
    """And setting the log up twice writes nothing twice."""
    listen("info", "json")
    written = listen("warning", "json")
    logging.getLogger("gateway.test").info("no")
    logging.getLogger("gateway.test").warning("yes")
    (line,) = written.getvalue().splitlines()
    assert json.loads(line)["message"] == "yes"
