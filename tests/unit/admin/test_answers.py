"""What the admin API answers: calls, requests, budgets, probes, each against calls that were really made."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gateway.admin import pages
from gateway.simulator import Simulator
from tests.harness.books import CHAT, HAIKU, MESSAGES, MINI, TOLD, budgets_of, correlated, post, record_after
from tests.harness.gateways import record_of
from tests.harness.raw_client import ask, connected
from tests.unit.admin.conftest import get, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def body_of(gateway: Any, path: str, status: int = 200) -> Any:
    """The JSON answer, never to be kept by a cache."""
    answer = await get(gateway, path)
    assert answer.status == status, answer.body.content
    assert answer.head.value(b"content-type") == b"application/json"
    assert answer.head.value(b"cache-control") == b"no-store"
    return json.loads(answer.body.content)


async def make(gateway: Any, correlation_id: str, count: int = 1) -> list[dict[str, Any]]:
    """So many calls of one correlation id, one after the other; their records, newest first."""
    for number in range(count):
        sent = post(CHAT, MINI, f"words={number + 1}", ("X-Correlation-Id", correlation_id))
        await record_after(gateway, await ask(gateway.front_port, sent))
    return await correlated(gateway, correlation_id, count)


NOT_THERE = ("/nowhere", "/api/v1/calls/no-such-call", "/api/v1/requests/no-such", "/api/v1/calls/%ff%00", "/api/v1/")


@pytest.mark.parametrize("path", NOT_THERE)
async def test_what_is_not_there_is_a_404_in_json(opened: Any, path: str) -> None:
    """And nothing of what was asked is repeated."""
    error = (await body_of(opened, path, 404))["error"] if path in NOT_THERE[1:4] else None
    answer = await get(opened, path)
    error = error or json.loads(answer.body.content)["error"]
    assert (answer.status, error["status"]) == (404, 404)
    assert not re.search("no-such|nowhere|ff", error["message"])


async def test_probes_say_what_runs(opened: Any) -> None:
    """Alive, ready with the version of the config, and each check with its time."""
    assert (await body_of(opened, "/health/live"))["status"] == "ok"
    ready = await body_of(opened, "/health/ready")
    assert (ready["status"], ready["checks"]["store"]["status"]) == ("ready", "ok")
    assert ready["checks"]["store"]["time_ms"] >= 0
    [record] = await make(opened, "versions")
    version = record["config_version"]
    assert re.fullmatch("[0-9a-f]{12}", version)
    assert ready["config_version"] == version
    assert (await body_of(opened, "/system/llm-status"))["config_version"] == version
    assert (await body_of(opened, "/api/v1/config"))["version"] == version
    assert f'config_version_info{{version="{version}"}} 1.0'.encode() in (await get(opened, "/metrics")).body.content


async def test_a_store_that_is_gone_is_told_by_probe_metrics_and_api(provider: Simulator, tmp_path: Path) -> None:
    """Not ready, but alive; a question to the books is a 503 that says so, and not a bug of ours."""
    async with serving(provider, tmp_path) as gateway:
        await gateway._store.close()
        assert b"\ntollgate_store_up 0.0" in (await get(gateway, "/metrics")).body.content  # a scrape looks as well
        ready = await body_of(gateway, "/health/ready", 503)
        assert (ready["status"], ready["checks"]["store"]["status"]) == ("failed", "failed")
        assert (await body_of(gateway, "/health/ready/store", 503))["status"] == "failed"
        await body_of(gateway, "/health/live")
        for path in ("/api/v1/calls", "/api/v1/calls/x", "/api/v1/requests/x", "/api/v1/budgets"):
            assert "store" in (await body_of(gateway, path, 503))["error"]["message"]


async def test_calls_are_listed_newest_first_page_by_page(opened: Any) -> None:
    """Every call on exactly one page, whatever its size, also while new ones come in; the last page has no next."""
    made = [record["call_id"] for record in await make(opened, "paged", 7)]
    for limit in (1, 2, 3, 7, 8):
        found: list[str] = []
        before: str | None = ""
        while before is not None:
            query = f"/api/v1/calls?limit={limit}&correlation_id=paged&before={before}"
            page = await body_of(opened, query)
            assert len(page["calls"]) <= limit
            found += [record["call_id"] for record in page["calls"]]
            assert len(found) <= 7
            before = page["next"]
            await make(opened, "in-between")
        assert found == made
    everything = (await body_of(opened, "/api/v1/calls?limit=500"))["calls"]
    assert [each["call_id"] for each in everything if each["correlation_id"] == "paged"] == made
    times = [each["started_at"] for each in everything]
    assert times == sorted(times, reverse=True)
    assert (await body_of(opened, "/api/v1/calls?before=gone")) == {"calls": [], "next": None}


@pytest.mark.parametrize("limit", ["0", "501", "-1", "many", "", "1.5", "1e2"])
async def test_a_page_of_no_sensible_size_is_a_400(opened: Any, limit: str) -> None:
    """Said, not silently something else."""
    assert "limit" in (await body_of(opened, f"/api/v1/calls?limit={limit}", 400))["error"]["message"]


async def test_one_call_is_told_in_flight_and_when_it_is_over(opened: Any) -> None:
    """The record in nano-dollars and in dollars; while it runs it says that it is on its way."""
    async with connected(opened.front_port) as client:
        await client.send(post(CHAT, MINI | TOLD, "words=5;pace=0.05"))
        name = ((await client.head()).value(b"x-tollgate-call-id") or b"").decode()
        assert await body_of(opened, f"/api/v1/calls/{name}") == {"state": "in_flight", "call_id": name}
        assert (await body_of(opened, "/system/llm-status"))["active_requests"] == 1
        assert b'llm_active_requests{provider="openai"} 1.0' in (await get(opened, "/metrics")).body.content
        await client.see(b"[DONE]")
    record = await record_of(opened.admin_url, name)
    assert (record["call_id"], record["stream"], record["outcome"]) == (name, True, "completed")
    assert round(float(record["cost_usd"]) * 10**9) == record["cost_nanousd"] > 0
    assert round(float(record["held_usd"]) * 10**9) == record["held_nanousd"] > 0


@pytest.mark.parametrize("correlation_id", ["one-run", "a/b?c=d&e#f%2F", "';drop-table-records;--", ".."])
async def test_a_request_is_the_sum_of_its_calls(opened: Any, correlation_id: str) -> None:
    """Oldest first, with every model once; whatever an app has chosen as its id."""
    quoted = "".join(char if char.isalnum() or char == "-" else f"%{ord(char):02X}" for char in correlation_id)
    for target, body in ((CHAT, MINI), (MESSAGES, HAIKU), (CHAT, MINI)):
        answer = await ask(opened.front_port, post(target, body, "", ("X-Request-Id", correlation_id)))
        await record_after(opened, answer)
    found = await body_of(opened, f"/api/v1/requests/{quoted}")
    assert (found["correlation_id"], found["count"], len(found["calls"])) == (correlation_id, 3, 3)
    assert found["models"] == ["claude-haiku-4-5", "gpt-4o-mini"]
    assert [each["protocol"] for each in found["calls"]] == ["openai", "anthropic", "openai"]
    assert found["cost_nanousd"] == sum(each["cost_nanousd"] for each in found["calls"]) > 0
    assert round(float(found["cost_usd"]) * 10**9) == found["cost_nanousd"]


async def test_a_request_of_very_many_calls_is_summed_whole(opened: Any) -> None:
    """The list ends somewhere, with the newest; count and sum do not."""
    sent = post(CHAT, MINI, "words=1", ("X-Correlation-Id", "many"))
    async with connected(opened.front_port) as client:
        for _ in range(510):
            answer = await client.ask(sent)
    last = await record_after(opened, answer)
    found = await body_of(opened, "/api/v1/requests/many")
    assert found["count"] == 510
    assert found["cost_nanousd"] == 510 * last["cost_nanousd"]
    assert len(found["calls"]) == 500
    assert found["calls"][-1]["started_at"] == last["started_at"]


async def test_budgets_and_upstreams_are_told(opened: Any) -> None:
    """Limit, spent, held and remaining add up and have a reset; upstreams have connections."""
    await make(opened, "budgets")
    budget = (await budgets_of(opened))["global"]
    assert (budget["limit_nanousd"], budget["window"], budget["limit_usd"]) == (5 * 10**9, "month", "5.00")
    assert budget["remaining_nanousd"] == 5 * 10**9 - budget["spent_nanousd"] - budget["held_nanousd"] < 5 * 10**9
    assert re.fullmatch(r"\d{4}-\d\d-01T00:00:00(Z|\+00:00)", budget["resets_at"])
    upstreams = {each["name"]: each for each in (await body_of(opened, "/api/v1/upstreams"))["upstreams"]}
    assert upstreams.keys() == {"up", "openai", "anthropic"}
    assert upstreams["openai"]["idle"] >= 1
    assert upstreams["anthropic"]["provider"] == "anthropic"


FILTERS: dict[str, str] = {
    "team=search": "a b c e",
    "team=": "d f",
    "team=searc": "",
    "user=ines&team=search": "a",
    "agent=planner": "b",
    "model=gpt-4o-mini": "a b d e f",
    "model=claude-haiku-4-5": "c",
    "upstream=anthropic": "c",
    "outcome=completed": "a b c d f",
    "outcome=upstream_error": "e",
    "outcome=refused": "",
    "status=200": "a b c d f",
    "status=4xx": "e",
    "status=429&team=search": "e",
    "status=5xx": "",
    "key_name=": "a b c d e f",
    "correlation_id=filter-b": "b",
    "since=2020-01-01": "a b c d e f",
    "since=2999-01-01": "",
    "until=2020-01-01T00:00:00Z": "",
    "until=2999-01-01T00:00:00%2B02:00&since=&model=claude-haiku-4-5": "c",
}


async def test_calls_are_found_by_what_stands_in_them(provider: Simulator, tmp_path: Path) -> None:
    """Each filter by itself, some together, page by page."""
    sent: dict[str, tuple[tuple[str, dict[str, Any]], str, dict[str, str]]] = {
        "a": ((CHAT, MINI), "", {"team": "search", "user": "ines"}),
        "b": ((CHAT, MINI), "", {"team": "search", "agent": "planner"}),
        "c": ((MESSAGES, HAIKU), "", {"team": "search"}),
        "d": ((CHAT, MINI), "", {"user": "ines"}),
        "e": ((CHAT, MINI), "status=429", {"team": "search"}),
        "f": ((CHAT, MINI), "", {}),
    }
    async with serving(provider, tmp_path) as gateway:
        for name, (asked, wish, fields) in sent.items():
            said = [(f"x-tollgate-{field}", text) for field, text in fields.items()]
            answer = await ask(gateway.front_port, post(*asked, wish, *said, ("X-Correlation-Id", f"filter-{name}")))
            await record_after(gateway, answer)
        for query, expected in FILTERS.items():
            for limit in (1, 500):
                found, cursor = [], ""
                while cursor is not None:
                    page = await body_of(gateway, f"/api/v1/calls?{query}&limit={limit}&cursor={cursor}")
                    found += [each["correlation_id"].removeprefix("filter-") for each in page["calls"]]
                    cursor = page["next"]
                assert sorted(found) == expected.split(), (query, limit)


WRONG = {
    "limt=5": "there is no such parameter; did you mean limit?",
    "zq=5": "there is no such parameter; known are limit, cursor, before",
    "limit=5&limit=6": "limit can be asked for once",
    "status=many": "status must be a status such as 429, or 4xx",
    "status=6xx": "status must be a status such as 429, or 4xx",
    "status=200%0A": "status must be a status such as 429, or 4xx",
    "since=yesterday": "since must be a day such as 2026-11-21 (UTC) or a time",
    "since=2026-02-30": "since must be a day",
    "until=2026-11-21T12:00:00": "until must be a day",
    "until=0001-01-01T00:00:00%2B23:00": "until is in no year",
    f"team={'x' * 501}": "team must have at most 500 characters",
}


@pytest.mark.parametrize("query", WRONG)
async def test_what_cannot_be_asked_is_told_without_being_repeated(opened: Any, query: str) -> None:
    """A filter that was misspelt would be no filter at all, and show every call."""
    message = (await body_of(opened, f"/api/v1/calls?{query}", 400))["error"]["message"]
    assert WRONG[query] in message
    assert not re.search("zq|limt|yesterday|xxx", message)


@pytest.mark.parametrize(
    "path", ["/api/v1/config", "/api/v1/me", "/api/v1/upstreams?verbose", "/system/llm-status?x=1"]
)
async def test_a_parameter_of_another_route_is_refused_too(opened: Any, path: str) -> None:
    """The table decides for every route."""
    query = "" if "?" in path else "?limit=5"
    assert "there are none" in (await body_of(opened, path + query, 400))["error"]["message"]


@pytest.mark.parametrize(
    "path",
    ["/api/v1/calls", "/api/v1/config", "/api/v1/openapi.json", "/api/v1/budgets", "/", "/main.js", "/index.html"],
)
async def test_what_has_not_changed_is_not_sent_again(opened: Any, path: str) -> None:
    """An ETag on every GET; 304 for who names it, in a list or weakly as well, and the whole for who names another."""
    first = await get(opened, path)
    etag = (first.head.value(b"etag") or b"").decode()
    assert re.fullmatch(r'(W/)?"[0-9a-f]{24}"', etag)
    strong = etag.removeprefix("W/")
    for known in (etag, strong, f'"other", {etag}', f"W/{strong}", "*"):
        again = await get(opened, path, ("If-None-Match", known))
        assert (again.status, again.body.content, again.head.value(b"etag")) == (304, b"", etag.encode()), known
        assert again.head.value(b"cache-control") == first.head.value(b"cache-control")
        assert again.head.value(b"x-content-type-options") == b"nosniff"
    for other in ('"other"', f'"{strong[1:5]}"', "", "nonsense"):
        again = await get(opened, path, ("If-None-Match", other))
        assert (again.status, again.body.content) == (200, first.body.content)


async def test_an_etag_is_that_of_what_is_there_now(opened: Any) -> None:
    """A new call makes another list; an error has none, and is none of what one has."""
    before = (await get(opened, "/api/v1/calls")).head.value(b"etag") or b""
    await make(opened, "etag")
    answer = await get(opened, "/api/v1/calls", ("If-None-Match", before.decode()))
    assert (answer.status, answer.head.value(b"etag") != before) == (200, True)
    missing = await get(opened, "/api/v1/calls/nobody", ("If-None-Match", "*"))
    assert (missing.status, missing.head.value(b"etag")) == (404, None)


async def test_every_file_of_the_page_is_served_as_what_it_is(opened: Any) -> None:
    """Open to all, with its own type; nothing beside the folder, and no folder."""
    folder = Path(pages.__file__).parent / "page"
    files = [each for each in folder.rglob("*") if each.is_file() and each.suffix[1:] in pages.KINDS]
    assert len(files) >= 3
    for each in files:
        answer = await get(opened, f"/{each.relative_to(folder)}")
        assert (answer.status, answer.body.content) == (200, each.read_bytes())
        assert (answer.head.value(b"content-type") or b"").decode().split(";")[0] == pages.KINDS[each.suffix[1:]]
    for path in ("/server.py", "/../server.py", "/%2e%2e/server.py", "/page/main.js", "/page"):
        assert (await get(opened, path)).status == 404
