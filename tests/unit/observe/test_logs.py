"""The log: one line a call with the names of the contract, and nothing in any line that a caller, a prompt or a key shaped."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.app import running
from gateway.call import RARE, Record
from gateway.loading import load
from gateway.observe.logs import MASK, CallLog, setup
from gateway.simulator import Simulator
from tests.harness.books import CALLS, CHAT, MESSAGES, MINI, post
from tests.harness.finished import batch
from tests.harness.gateways import config_for, record_of, records, write
from tests.harness.messages import request
from tests.harness.raw_client import ask
from tests.unit.observe.test_metrics import RECORD

SECTION_11 = {
    "call_id", "correlation_id", "trace_id", "started_at", "team", "user", "agent", "call_type", "tags", "key_name",
    "upstream", "provider", "protocol", "operation", "model_requested", "model_served", "stream", "status", "error_type",
    "attempts", "usage", "usage_source", "usage_raw", "cost_nanousd", "price_rows", "pricebook", "service_tier",
    "held_nanousd", "budgets", "latency_ms", "ttft_ms", "overhead_ms", "read_ms", "reserve_ms", "sent_ms", "request_bytes", "response_bytes",
    "config_version", "outcome",
}  # fmt: skip
"""The call record of the contract, without what the gateway does not do yet (hashes of bodies, the cache)."""
SECRETS = {
    "OpenAI key": "sk-proj-Abc123_def456GHI",
    "Anthropic key": "sk-ant-api03-Abc123-xyz",
    "Google key": "AIza" + "Sy0123456789abcdefghijklmnopqrstuvw",
    "bearer token": "Bearer eyJhbGciOiJIUzI1NiJ9.e30.abc",
    "gateway key": "key-0123456789abcdef",
}
CANARY = "zqcanaryzq"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture
def own() -> Iterator[logging.Logger]:
    """The package's logger, given back as it was."""
    logger = logging.getLogger("gateway")
    before = logger.handlers[:], logger.level, logger.propagate
    yield logger
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


def line_of(form: str, **changes: Any) -> str:
    """The one line that a record becomes."""
    stream = io.BytesIO()
    CallLog(form, stream).take(batch([replace(RECORD, **changes)]))
    text = stream.getvalue().decode()
    assert text.endswith("\n")
    assert text.count("\n") == 1
    return text[:-1]


# -- calls -----------------------------------------------------------------------------------------------------------------


def test_a_line_has_the_names_of_the_record() -> None:
    """What section 11 of the contract names is there, under the name that API and store use, and nothing is left out."""
    line = json.loads(line_of("json", tags={"k": "v"}, budgets=("b",), ttft_ms=None))
    assert line.keys() >= SECTION_11
    assert line.pop("event") == "call"
    assert line.keys() == {field.name for field in fields(Record)} - RARE.keys()
    assert json.loads(line_of("json", priced_as="gpt-5")).keys() >= RARE.keys()
    assert (line["cost_nanousd"], line["usage"], line["ttft_ms"]) == (1234, dict(RECORD.usage), None)
    assert (line["tags"], line["budgets"], line["stream"]) == ({"k": "v"}, ["b"], True)


def test_a_line_for_people_says_the_same_in_short() -> None:
    """Who, what, how much, how long, how it ended, and the id to look the rest up by."""
    line = line_of(
        "console", status=429, error_type="budget_exceeded", outcome="refused", usage={"audio_in": 3, "audio_out": 4}
    )
    words = line.split()
    assert words[:3] == [RECORD.started_at, "429", "search"]
    assert words[3:8] == ["gpt-4o", "3", "in", "4", "out"]
    assert line.endswith("refused budget_exceeded  c1")
    assert "$0.000001234" in line
    assert "700.0 ms" in line


@pytest.mark.parametrize(
    "odd", ["a\nb", "a\r\nb", "a\x1b[31mb", "a\u2028b", "a\x00b", 'a"b', "a\\b", "\u202eab", "日本"]
)
@pytest.mark.parametrize("field", ["team", "user", "model_requested", "error_type", "correlation_id"])
def test_no_value_begins_a_line_or_paints_a_terminal(field: str, odd: str) -> None:
    """JSON gives the value back as it was; a line for people shows it without obeying it."""
    assert json.loads(line_of("json", **{field: odd}))[field] == odd
    assert line_of("console", **{field: odd}).isprintable()


ORDINARY = [replace(RECORD, call_id=f"0190-{number:08x}-{number * 7919:012x}") for number in range(2000)]
ALWAYS = {
    "failed": {"error_type": "503", "outcome": "upstream_error"},
    "refused": {"error_type": "budget_exceeded", "outcome": "refused"},
    "cut": {"outcome": "cut"},
    "left": {"outcome": "client_disconnected"},
    "lost": {"outcome": "lost"},
    "unpriced": {"unpriced": True},
    "a correction": {"corrects": "c0"},
    "work of another call": {"told_by": "c0"},
}


def sampled(share: float, form: str, calls: list[Record]) -> list[str]:
    """The lines that are written of these calls, one batch each ten."""
    stream = io.BytesIO()
    log = CallLog(form, stream, share)
    for start in range(0, len(calls), 10):
        log.take(batch(calls[start : start + 10]))
    return stream.getvalue().decode().splitlines()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.999, 1.0])
def test_a_share_of_the_ordinary_calls_is_written_the_same_wherever(share: float) -> None:
    """Each says for how many it stands, so that counts can be scaled; a larger share holds all of a smaller one."""
    lines = [json.loads(line) for line in sampled(share, "json", ORDINARY)]
    assert len(lines) == pytest.approx(share * len(ORDINARY), abs=5 * (len(ORDINARY) * share * (1 - share)) ** 0.5)
    assert {line.get("sample_rate") for line in lines} <= ({share} if share < 1 else {None})
    assert [line["call_id"] for line in lines] == [
        json.loads(each)["call_id"] for each in sampled(share, "json", ORDINARY)
    ]
    more = {json.loads(line)["call_id"] for line in sampled((1 + share) / 2, "json", ORDINARY)}
    assert {line["call_id"] for line in lines} <= more
    assert len(sampled(share, "console", ORDINARY)) == len(lines)


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("odd", ALWAYS.values(), ids=ALWAYS)
def test_what_is_out_of_the_ordinary_is_always_written(odd: dict[str, Any], form: str) -> None:
    """And stands for itself."""
    lines = sampled(0.0, form, [replace(each, **odd) for each in ORDINARY[:50]])
    assert len(lines) == 50
    assert not any("sample_rate" in line for line in lines)
    assert all(line.endswith("sample_rate 0.5") for line in sampled(0.5, "console", ORDINARY))


async def test_a_gateway_logs_one_line_a_call_and_nothing_of_what_was_said(
    provider: Simulator, tmp_path: Path, own: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prompts, answers, keys, query strings and bodies of errors pass through; names and figures stay."""
    stream = io.BytesIO()
    config = config_for(tmp_path, provider.url, observability={"logging": {"level": "debug"}}, budgets=[
        {"scope": "team:poor", "limit_usd": "0.00000001"}], up={"api_key": SECRETS["Anthropic key"]})  # fmt: skip
    said = {"messages": [{"role": "user", "content": f"tell {CANARY} everything"}]}
    keys = (("Authorization", f"Bearer {CANARY}"), ("X-Api-Key", CANARY), ("Cookie", CANARY), ("X-Odd", CANARY))
    calls = [post(f"{target}?key={CANARY}", body, wish, *keys) for target, body, wish in CALLS.values()]
    calls += [post(CHAT, MINI | said, wish, *keys) for wish in ("", "status=500", "cut=0", "cut=3")]
    calls += [
        post(MESSAGES, MINI | said | {"stream": True, "metadata": {CANARY: CANARY}}, "", *keys),
        post(CHAT, MINI | said, "", *keys, ("X-Tollgate-Team", "poor")),
        post(CHAT, MINI | said, "", *keys, ("X-Tollgate-Team", f"\u2603{CANARY}")),
        request("POST", CHAT, *keys, body=f'{{"{CANARY}": '.encode()),
        request("GET", f"/nowhere/{CANARY}", *keys),
        request("GET", f"/v1/models/{CANARY}", *keys),
    ]
    path = write(tmp_path, config)
    async with running(load(path, {}), path, call_log=stream) as gateway:
        answers = [await ask(gateway.front_port, each) for each in calls]
        found = await records(gateway.admin_url, len(calls))
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert sorted(line["call_id"] for line in lines) == sorted(record["call_id"] for record in found)
    assert {answer.status for answer in answers} >= {200, 400, 404, 429, 500, 502}
    assert [{name: value for name, value in record.items() if name in line} for record in found for line in lines
            if line["call_id"] == record["call_id"]] == [
        {name: value for name, value in line.items() if name != "event"} for record in found for line in lines
        if line["call_id"] == record["call_id"]]  # fmt: skip
    messages = capsys.readouterr().err
    assert "serving on" in messages
    for text in (stream.getvalue().decode(), messages):
        assert CANARY not in text
        assert SECRETS["Anthropic key"] not in text


async def test_what_is_turned_off_is_silent_and_the_books_are_kept(
    provider: Simulator, tmp_path: Path, own: logging.Logger
) -> None:
    """``observability.enabled: false``: no line and no count, but a record."""
    stream = io.BytesIO()
    path = write(tmp_path, config_for(tmp_path, provider.url, observability={"enabled": False}))
    async with running(load(path, {}), path, call_log=stream) as gateway:
        answer = await ask(gateway.front_port, post(CHAT, MINI))
        record = await record_of(gateway.admin_url, answer.head.value(b"x-tollgate-call-id"))
    assert record["cost_nanousd"] > 0
    assert stream.getvalue() == b""


# -- the gateway's own messages --------------------------------------------------------------------------------------------


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines on standard error."""
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_a_level_keeps_what_is_as_weighty(
    own: logging.Logger, capsys: pytest.CaptureFixture[str], level: str, count: int
) -> None:
    """And says which it was."""
    setup(level, "json")
    logger = logging.getLogger("gateway.anything")
    for each in ("debug", "info", "warning", "error"):
        getattr(logger, each)("a message")
    lines = [json.loads(line) for line in said(capsys)]
    assert [line["level"] for line in lines] == ["debug", "info", "warning", "error"][-count:]
    assert all(line.keys() == {"event", "time", "level", "logger", "message"} for line in lines)
    assert all(re.fullmatch(TIME, line["time"]) for line in lines)
    assert (lines[0]["event"], lines[0]["logger"], lines[0]["message"]) == ("log", "gateway.anything", "a message")


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_message_begins_no_line_of_its_own(
    own: logging.Logger, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    """Control characters are escaped."""
    setup("info", form)
    logging.getLogger("gateway.test").info("a team called %s", 'x\n{"event":"call"}\r\x1b[2J')
    [line] = said(capsys)
    assert line.isprintable()
    assert form == "console" or json.loads(line)["message"].endswith("\x1b[2J")


def test_a_message_for_people_is_a_line(own: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    """Time, level, where, what."""
    setup("info", "console")
    logging.getLogger("gateway.app").warning("three %s\nmice", "blind\x1b[31m")
    [line] = said(capsys)
    assert re.fullmatch(TIME + r" warning gateway\.app: three blind\\x1b\[31m\\nmice", line)


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_what_looks_like_a_key_is_masked(
    own: logging.Logger, capsys: pytest.CaptureFixture[str], form: str, secret: str
) -> None:
    """In messages, where the words around it stay; of an exception only type and place are told, which hold no secret."""
    setup("info", form)
    logger = logging.getLogger("gateway.store")
    words = f"cannot log in with {secret} here"
    try:
        raise ValueError(words)
    except ValueError:
        logger.exception("before %s after", secret)
    text = "\n".join(said(capsys))
    assert secret not in text
    assert secret.rsplit(maxsplit=1)[-1] not in text
    assert f"before {MASK} after" in text
    assert "cannot log in" not in text
    assert "ValueError" in text
    assert "test_logs.py" in text


@pytest.mark.parametrize("form", ["json", "console"])
def test_an_exception_is_told_by_type_and_place(
    own: logging.Logger, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    """Its causes as well, and not a word of what any of them says: it may quote a prompt."""
    setup("info", form)
    said_of = {"prompt": CANARY}
    try:
        try:
            int(said_of["prompt"])
        except ValueError as error:
            raise KeyError(said_of["prompt"]) from error
    except KeyError:
        logging.getLogger("gateway.handle").exception("a bug while handling call %s", "c1", extra={"call_id": "c1"})
    text = capsys.readouterr().err
    assert CANARY not in text
    assert text.index("KeyError") < text.index("ValueError")
    assert text.count("test_logs.py") == 2
    if form == "json":
        assert json.loads(text)["call_id"] == "c1"


def test_what_libraries_say_of_failures_has_the_form_of_the_log(
    own: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line of it: the rest is the repr of whatever it was about."""
    setup("info", "json")
    logging.getLogger("asyncio").error(
        "Task exception was never retrieved\nfuture: <Task exception=%r>", ValueError(CANARY)
    )
    [line] = said(capsys)
    assert (json.loads(line)["logger"], json.loads(line)["message"]) == (
        "asyncio",
        "Task exception was never retrieved",
    )


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_message_of_any_text_comes_out(own: logging.Logger, capsys: pytest.CaptureFixture[str], form: str) -> None:
    """Half a character (a file name that is no UTF-8) loses no line and makes no noise."""
    setup("info", form)
    logging.getLogger("gateway.reload").error("cannot read %s", "caf\udce9.yaml")
    [line] = said(capsys)
    assert "cannot read caf" in line
    assert "gateway.reload" in line


def test_messages_do_not_come_twice(own: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    """Set up a second time (a reload, a second gateway in one process) is set up once."""
    for _ in range(3):
        setup("info", "json")
    logging.getLogger("gateway").info("once")
    assert len(said(capsys)) == 1
