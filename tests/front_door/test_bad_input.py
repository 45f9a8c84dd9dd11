"""Requests that make no sense: forwarded as they are where nobody limits them, refused in clear words where a budget has to
read them; never a 500, never a broken connection, and nothing of them in a log line or a label.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from tests.harness.gateways import GatewayProcess, config_for, record_of
from tests.harness.messages import request, response
from tests.harness.raw_client import Answer, connected
from tests.harness.rows import CHAT
from tests.harness.scripted import ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/v1/chat/completions"
LIMITED = ("x-tollgate-team", "limited")
ANSWER = response(200, ("Content-Type", "application/json"), body=b'{"choices":[]}')
GOOD = request("POST", PATH, LIMITED, body=CHAT)
NAME = "Zq8Model"
"""In the names of models that nobody knows; records and logs may hold it, cut and cleaned."""
MARK = "Zq7Marker"
"""In what is refused; nothing may hold it."""


def chat(more: bytes) -> bytes:
    """A sound request with something more in its object."""
    return b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}],' + more + b"}"


UNREADABLE: dict[str, bytes] = {
    "cut short": b'{"model":"gpt-4o-mini","messages":[',
    "words": b"model=gpt-4o-mini",
    "array": b"[1,2,3]",
    "string": b'"gpt-4o-mini"',
    "number": b"42",
    "null": b"null",
    "white space": b" \r\n\t ",
    "two objects": CHAT + CHAT,
    "single quotes": b"{'model':'gpt-4o-mini'}",
    "comment": b'{"model":"gpt-4o-mini"} // ' + MARK.encode(),
    "NaN": chat(b'"max_tokens":NaN'),
    "infinity": chat(b'"max_tokens":1e400'),
    "integer of a thousand digits": chat(b'"max_tokens":' + b"9" * 1000),
    "nesting of 100 000": chat(b'"x":' + b"[" * 100_000 + b"]" * 100_000),
    "nesting that never ends": b'{"a":' * 100_000,
    "lone surrogate": chat(b'"user":"\\ud800"'),
    "invalid UTF-8": chat(b'"user":"\xc3\x28 \xff\xfe"'),
    "byte order mark": b"\xef\xbb\xbf" + CHAT,
    "UTF-16": CHAT.decode().encode("utf-16"),
    "NUL": chat(b'"user":"a\x00b"'),
    "line break in a string": chat(b'"user":"a\nb"'),
    "binary": bytes(range(256)) * 10,
    "gzip that is none": b"\x1f\x8b\x08\x00 not really",
}
"""What a budget cannot be held against."""
ODD: dict[str, bytes] = {
    "empty object": b"{}",
    "max_tokens of 2**63": chat(b'"max_tokens":9223372036854775808'),
    "max_tokens of 2**64": chat(b'"max_tokens":18446744073709551616'),
    "max_tokens below nothing": chat(b'"max_tokens":-1'),
    "max_tokens true": chat(b'"max_tokens":true'),
    "max_tokens a word": chat(b'"max_tokens":"x"'),
    "max_tokens a list": chat(b'"max_tokens":[5],"max_completion_tokens":{"a":1}'),
    "max_tokens a fraction": chat(b'"max_tokens":1.5'),
    "n a word": chat(b'"n":"many","stream":"yes","stream_options":7'),
    "n far below nothing": chat(b'"n":-9223372036854775808'),
    "duplicate keys": chat(b'"model":"gpt-4o","model":"gpt-4o-mini","max_tokens":5,"max_tokens":6'),
    "model a number": b'{"model":5,"messages":"hi"}',
    "model an object": b'{"model":{"a":["gpt-4o-mini"]},"messages":{"role":5}}',
    "model with line breaks": json.dumps({"model": f'a\n{NAME}\r\n\x00\x1b[31m"}} 1 \u2028\u202e'}).encode(),
    "model very long": json.dumps({"model": NAME * 10_000}).encode(),
    "messages of nonsense": chat(b'"messages":[null,1,[],{"content":[{"type":null},5,{"text":{}}]},{"role":[]}]'),
    "a million spaces": b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"' + b" " * (1 << 20) + b'"}]}',
    "a million of one letter": b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"' + b"a" * (1 << 20) + b'"}]}',
    "nesting of 900": chat(b'"tools":' + b"[" * 900 + b"]" * 900),
    "keys without end": b"{" + b",".join(b'"%d":0' % each for each in range(50_000)) + b"}",
}  # fmt: skip
"""What can be read, and is up to the provider."""
REFUSED_FIELDS: dict[str, bytes] = {
    "ten kilobytes": MARK.encode() * 1100,
    "next line": MARK.encode() + b"\xc2\x85x",
    "next line of latin-1": MARK.encode() + b"\x85x",
    "line separator": f"{MARK}\u2028x".encode(),
    "latin-1": MARK.encode() + b"caf\xe9",
    "right-to-left override": f"{MARK}\u202ex".encode(),
    "escape": MARK.encode() + b"\x1b[31m",
    "tab": MARK.encode() + b"\tx",
}
TAKEN_FIELDS: dict[str, bytes] = {
    "empty": b"",
    "blank": b"   ",
    "letters of any script": "équipe東京".encode(),
    "quotes and braces": b'a"b\\c{d="e"}%s${x}',
    "looks like a query": b"'; DROP TABLE accounts; --",
    "another budget's name": b"global",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def process(
    standing_upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[GatewayProcess]:
    """A gateway in a process of its own, whose log can be read; one team has a budget, nobody else."""
    folder = tmp_path_factory.mktemp("bad")
    budgets = [{"scope": "team:limited", "limit_usd": "1000000", "window": "total"}]
    serving = GatewayProcess(folder, config_for(folder, standing_upstream, budgets=budgets))
    await serving.start()
    yield serving
    try:
        assert "a bug" not in serving.log
        assert "could not" not in serving.log
        assert MARK not in serving.log
    finally:
        await serving.kill()


async def tell(process: GatewayProcess, sent: bytes) -> Answer:
    """Send it; then, on the same connection, a sound request, which must be answered."""
    async with connected(process.front_port) as client:
        answer = await client.ask(sent)
        assert (await client.ask(GOOD)).status == 200
    return answer


def error_of(answer: Answer) -> dict[str, Any]:
    """The error object of a 400."""
    assert answer.status == 400
    error: dict[str, Any] = json.loads(answer.body.content)["error"]
    assert MARK.encode() not in answer.head.raw + answer.body.content
    return error


async def look(process: GatewayProcess, path: str) -> str:
    """A page of the operator's."""
    async with aiohttp.ClientSession() as session, session.get(process.admin_url + path) as page:
        assert page.status == 200
        return await page.text()


async def assert_nothing_leaks(process: GatewayProcess) -> None:
    """Each line of the log is one JSON object without control characters, and the metrics can be read by Prometheus."""
    whole_lines, _, _ = process.log.rpartition("\n")
    for line in whole_lines.split("\n"):
        assert line.isprintable()
        assert json.loads(line)["event"] in ("call", "log")
        assert len(line) < 8000
    text = await look(process, "/metrics")
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert all(value.isprintable() and len(value) <= 256 for value in sample.labels.values())


@pytest.mark.parametrize("body", [*UNREADABLE.values(), b"", *ODD.values()], ids=[*UNREADABLE, "nothing", *ODD])
async def test_a_body_that_nobody_limits_is_forwarded_byte_for_byte(
    upstream: ScriptedUpstream, process: GatewayProcess, body: bytes
) -> None:
    """What is wrong with it is for the provider to say. The answer tells no usage, so that the call has to be counted."""
    upstream.answer = [ANSWER]
    answer = await tell(process, request("POST", PATH, body=body))
    assert (answer.status, answer.body.content) == (200, b'{"choices":[]}')
    assert upstream.seen[0].body.content == body
    record = await record_of(process.admin_url, answer.head.value(b"x-tollgate-call-id"))
    assert record["outcome"] == "completed"
    assert record["usage_source"] in ("counted", "estimated")
    await assert_nothing_leaks(process)


@pytest.mark.parametrize("body", [*UNREADABLE.values(), b""], ids=[*UNREADABLE, "nothing"])
async def test_a_budget_refuses_what_it_cannot_read(
    upstream: ScriptedUpstream, process: GatewayProcess, body: bytes
) -> None:
    """400 that says so; the provider hears nothing of it, and the body is not quoted."""
    upstream.answer = [ANSWER]
    answer = await tell(process, request("POST", PATH, LIMITED, body=body))
    error = error_of(answer)
    assert (error["code"], error["type"]) == ("malformed_body", "invalid_request_error")
    assert "budget" in error["message"]
    assert [seen.body.content for seen in upstream.seen] == [CHAT]
    record = await record_of(process.admin_url, answer.head.value(b"x-tollgate-call-id"))
    assert (record["outcome"], record["cost_nanousd"]) == ("refused", 0)
    await assert_nothing_leaks(process)


@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
async def test_a_budget_takes_what_it_can_read(
    upstream: ScriptedUpstream, process: GatewayProcess, body: bytes
) -> None:
    """Odd values are bounded from above and forwarded as they are; and something is set aside for them."""
    upstream.answer = [ANSWER]
    answer = await tell(process, request("POST", PATH, LIMITED, body=body))
    assert answer.status == 200
    assert upstream.seen[0].body.content == body
    record = await record_of(process.admin_url, answer.head.value(b"x-tollgate-call-id"))
    assert record["held_nanousd"] > 0
    assert 0 <= record["cost_nanousd"] < 10**15
    await assert_nothing_leaks(process)


@pytest.mark.parametrize("value", REFUSED_FIELDS.values(), ids=REFUSED_FIELDS)
async def test_a_name_that_cannot_be_a_label_is_refused(
    upstream: ScriptedUpstream, process: GatewayProcess, value: bytes
) -> None:
    """400 that names the field and does not repeat what was in it; or the parser's 400, which closes."""
    upstream.answer = [ANSWER]
    async with connected(process.front_port) as client:
        answer = await client.ask(request("POST", PATH, ("x-tollgate-team", value), body=CHAT))
        error = error_of(answer)
        assert error["code"] in ("malformed_header", "malformed_request")
        if error["code"] == "malformed_header":
            assert "x-tollgate-team" in error["message"]
            assert (await client.ask(GOOD)).status == 200
    assert len(upstream.seen) == (error["code"] == "malformed_header")
    assert MARK not in process.log + await look(process, "/metrics")
    await assert_nothing_leaks(process)


@pytest.mark.parametrize("value", TAKEN_FIELDS.values(), ids=TAKEN_FIELDS)
async def test_a_name_that_can_be_a_label_is_taken_as_it_is(
    upstream: ScriptedUpstream, process: GatewayProcess, value: bytes
) -> None:
    """In the record letter by letter, in the metrics escaped as Prometheus wants it, and at the provider not at all."""
    upstream.answer = [ANSWER]
    answer = await tell(process, request("POST", PATH, ("x-tollgate-team", value), body=CHAT))
    assert answer.status == 200
    assert b"x-tollgate-team" not in upstream.seen[0].head.raw
    record = await record_of(process.admin_url, answer.head.value(b"x-tollgate-call-id"))
    assert record["team"] == value.strip().decode()
    await assert_nothing_leaks(process)


FOLDED = {
    "folded": b"x-tollgate-team: a\r\n " + MARK.encode(),
    "bare carriage return": b"x-tollgate-team: a\r" + MARK.encode(),
    "bare line feed": b"x-tollgate-team: a\nx-injected: " + MARK.encode(),
    "NUL": b"x-tollgate-team: a\x00" + MARK.encode(),
    "space before the colon": b"x-tollgate-team : " + MARK.encode(),
    "twice, differently": b"x-tollgate-team: a\r\nx-tollgate-team: " + MARK.encode(),
}


@pytest.mark.parametrize("lines", FOLDED.values(), ids=FOLDED)
async def test_fields_with_line_ends_in_them_are_no_fields(
    upstream: ScriptedUpstream, process: GatewayProcess, lines: bytes
) -> None:
    """400, and whoever comes next is served."""
    upstream.answer = [ANSWER]
    async with connected(process.front_port) as client:
        error_of(await client.ask(GOOD.replace(b"x-tollgate-team: limited", lines)))
    async with connected(process.front_port) as client:
        assert (await client.ask(GOOD)).status == 200
    assert len(upstream.seen) == 1
    assert MARK not in process.log + await look(process, "/metrics")
    await assert_nothing_leaks(process)
