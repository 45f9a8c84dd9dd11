"""Budgets that operators set, raise, lower and reset while calls come in: exact on all replicas, and the books stay as they are."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from gateway.cli import main
from tests.harness.books import CHAT, post
from tests.harness.gateways import config_for, in_process
from tests.harness.messages import response
from tests.harness.raw_client import Answer, ask
from tests.harness.replicas import done, processes, say
from tests.harness.scripted import Script, ScriptedUpstream, Seen

pytestmark = pytest.mark.asyncio(loop_scope="module")

CENT = 10_000_000
CALL = {"model": "cent-a-call", "messages": [{"role": "user", "content": "hi"}]}
STRICT = {"scope": "global", "limit_usd": "0.40", "window": "month", "mode": "strict", "name": "all"}
ROWS = {"rows": [{"id": "cent", "provider": "openai", "names": ["cent-a-call"], "rates": {"input": "0", "output": "0", "requests": "0.01"}}]}  # fmt: skip
BODY = json.dumps(
    {"model": "cent-a-call", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 5}}
).encode()
RESET = "/api/v1/budgets/all/reset"


@pytest.fixture
def store(either_store: Any) -> dict[str, Any]:
    """The block of the config."""
    block, _ = either_store
    return block | {"held_wait": 0}


def blocks(folder: Path, store: dict[str, Any], *budgets: dict[str, Any]) -> dict[str, Any]:
    (folder / "prices.yaml").write_text(yaml.safe_dump(ROWS))
    return {"store": store, "budgets": list(budgets), "pricing": {"overrides": str(folder / "prices.yaml")}}


def slowly(random: Random) -> Any:
    """Answers after a while of each one's own."""

    def answer(seen: Seen) -> Script:
        return [random.random() * 0.1, response(200, ("Content-Type", "application/json"), body=BODY)]

    return answer


async def call(gateway: Any, team: str = "") -> Answer:
    fields = (("x-tollgate-team", team),) if team else ()
    return await ask(gateway.front_port, post(CHAT, CALL, "", *fields))


async def burst(gateways: list[Any], calls: int) -> int:
    """All at once; how many pass."""
    answers = await asyncio.gather(*(call(gateways[number % len(gateways)]) for number in range(calls)))
    assert {answer.status for answer in answers} <= {200, 429}
    return sum(answer.status == 200 for answer in answers)


async def row(gateway: Any, name: str = "all") -> dict[str, Any]:
    found: list[dict[str, Any]] = (await done(gateway, "GET", "/api/v1/budgets"))["budgets"]
    return next(each for each in found if each["budget"] == name)


async def agreed(gateways: list[Any], **wanted: int) -> dict[str, Any]:
    """The row, as soon as every gateway tells these amounts of cents and holds nothing."""
    async with asyncio.timeout(15):
        while True:
            rows = [await row(gateway) for gateway in gateways]
            if all(
                each[f"{name}_nanousd"] == cents * CENT
                for each in rows
                for name, cents in (wanted | {"held": 0}).items()
            ):
                return rows[0]
            await asyncio.sleep(0.02)


async def tollgate(folder: Path, *arguments: str) -> Result:
    return await asyncio.to_thread(
        CliRunner().invoke, main, [*arguments, "--config", str(folder / "0" / "tollgate.yaml")]
    )


async def audited(folder: Path) -> dict[str, Any]:
    """The books worked out again: nothing differs."""
    result = await tollgate(folder, "audit", "--json")
    found: dict[str, Any] = json.loads(result.stdout)
    assert (result.exit_code, found["different"], found["accounts"], found["spend"]) == (0, [], [], []), result.output
    return found


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_strict_budget_is_exact_through_a_storm_of_changes(
    upstream: ScriptedUpstream, tmp_path: Path, store: Any, seed: int
) -> None:
    """Raised in the middle of a storm, lowered, raised, reset, on two processes: of all calls exactly as many pass as there are cents
    in what was allowed; records, counters and audit are one figure, and a reset has changed none of them.
    """
    upstream.answer = slowly(Random(seed))
    async with processes(tmp_path, upstream, 2, **blocks(tmp_path, store, STRICT)) as gateways:
        one, two = gateways
        first = asyncio.create_task(burst(gateways, 200))
        await asyncio.sleep(0.2)
        await done(one, "PUT", "/api/v1/budgets/all", {"limit_usd": "0.90", "reason": "the fair"})
        passed = await first
        await agreed(gateways, limit=90)
        passed += await burst(gateways, 200)
        await agreed(gateways, spent=90)
        assert passed == 90

        await done(two, "PUT", "/api/v1/budgets/all", {"limit_usd": "0.50"})
        await agreed(gateways, limit=50)
        assert await burst(gateways, 20) == 0
        await done(two, "PUT", "/api/v1/budgets/all", {"limit_usd": 1.1})
        await agreed(gateways, limit=110)
        assert await burst(gateways, 100) == 20
        await agreed(gateways, spent=110, remaining=0)

        told = await done(one, "POST", RESET, {"reason": "a loop, fixed"})
        assert (told["forgiven_nanousd"], told["spent_nanousd"]) == (110 * CENT, 0)
        await agreed(gateways, spent=0, remaining=110, limit=110, forgiven=110)
        assert await burst(gateways, 300) == 110
        await agreed(gateways, spent=110, remaining=0, forgiven=110)
        assert len(upstream.seen) == 220
        assert (await audited(tmp_path))["cost_nanousd"] == 220 * CENT


async def test_what_is_told_of_a_budget_after_a_reset_agrees(
    upstream: ScriptedUpstream, tmp_path: Path, store: Any
) -> None:
    """Header fields, the refusal in figures and words, metrics, the API and the command line: spent is what was spent since."""
    upstream.answer = [response(200, ("Content-Type", "application/json"), body=BODY)]
    budget = STRICT | {"limit_usd": "0.03", "notify_at": [50, 100]}
    async with processes(tmp_path, upstream, 2, **blocks(tmp_path, store, budget)) as gateways:
        one, two = gateways
        left = [(await call(one)).head.value(b"x-tollgate-budget-remaining-usd") for _ in range(3)]
        assert left == [b"0.02", b"0.01", b"0.00"]
        await agreed(gateways, spent=3)
        result = await tollgate(tmp_path, "budgets", "reset", "all", "--reason", "why not")
        assert result.exit_code == 0, result.output
        await agreed(gateways, spent=0, remaining=3, limit=3, forgiven=3)
        assert (await call(two)).head.value(b"x-tollgate-budget-remaining-usd") == b"0.02"
        assert (await call(one)).status == (await call(two)).status == 200
        await agreed(gateways, spent=3)
        refused = await call(two)
        error = json.loads(refused.body.content)["error"]
        assert (error["limit_usd"], error["spent_usd"]) == (0.03, 0.03)
        assert "of $0.03, $0.03 is spent" in error["message"]
        assert b"r=0" in refused.head.value(b"ratelimit")
        metrics = (await ask(two.admin_port, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")).body.content.decode()
        figures = {
            line.partition("{")[0]: line.rpartition(" ")[2] for line in metrics.splitlines() if 'budget="all"' in line
        }
        assert float(figures["llm_budget_spent_usd"]) == float(figures["llm_budget_limit_usd"]) == 0.03
        listed = json.loads((await tollgate(tmp_path, "budgets", "list", "--json")).output)["budgets"]
        there = await row(one)
        assert {name: listed[0][name] for name in listed[0] if name in there} == {
            name: there[name] for name in there if name in listed[0]
        }
        notices = "".join(
            line for gateway in gateways for line in gateway.log.splitlines(keepends=True) if "budget all" in line
        )
        assert notices.count("has come to 50 % of $0.03") == 2, "each time that it is crossed"
        assert (await audited(tmp_path))["cost_nanousd"] == 6 * CENT


async def test_thresholds_of_a_raised_budget_are_told_again(
    upstream: ScriptedUpstream, tmp_path: Path, store: Any
) -> None:
    """Half of four cents, then half of eight; and no threshold twice."""
    upstream.answer = [response(200, ("Content-Type", "application/json"), body=BODY)]
    budget = STRICT | {"limit_usd": "0.04", "notify_at": [50]}
    async with processes(tmp_path, upstream, 2, **blocks(tmp_path, store, budget)) as gateways:
        for _ in range(3):
            assert (await call(gateways[0])).status == 200
        await done(gateways[0], "PUT", "/api/v1/budgets/all", {"limit_usd": "0.08"})
        await agreed(gateways, limit=8)
        for number in range(5):
            assert (await call(gateways[number % 2])).status == 200
        await agreed(gateways, spent=8)
        told = [line for gateway in gateways for line in gateway.log.splitlines() if "has come to 50 %" in line]
        assert sum("of $0.04" in line for line in told) == sum("of $0.08" in line for line in told) == 1


async def test_a_decision_takes_the_place_of_the_config_until_it_is_taken_back(
    upstream: ScriptedUpstream, tmp_path: Path, store: Any
) -> None:
    """As a whole, also over a reload that changes the config's; then the config's holds again, as it is by then."""
    upstream.answer = [response(200, ("Content-Type", "application/json"), body=BODY)]
    config = STRICT | {"notify_at": [80], "limit_usd": "0.02"}
    async with processes(tmp_path, upstream, 2, **blocks(tmp_path, store, config)) as gateways:
        one, two = gateways
        made = await done(one, "PUT", "/api/v1/budgets/all", {"limit_usd": "0.05", "reason": "more"})
        assert (made["mode"], made["window"], made["notify_at"], made["source"]) == ("strict", "month", [80], "runtime")
        there = await agreed(gateways, limit=5)
        assert (there["source"], there["reason"], there["changed_by"]) == ("runtime", "more", "loopback")
        for number in range(2):
            path = tmp_path / str(number) / "tollgate.yaml"
            path.write_text(
                yaml.safe_dump(yaml.safe_load(path.read_text()) | {"budgets": [config | {"limit_usd": "0.03"}]})
            )
        versions = {(await done(each, "GET", "/api/v1/config"))["version"] for each in gateways}
        async with asyncio.timeout(15):
            while {(await done(each, "GET", "/api/v1/config"))["version"] for each in gateways} & versions:
                await asyncio.sleep(0.05)
        await agreed(gateways, limit=5)
        assert (await say(two, "DELETE", "/api/v1/budgets/all", None, ("If-Match", '"v999"')))[0] == 412
        assert (await done(two, "DELETE", "/api/v1/budgets/all"))["source"] == "config"
        await agreed(gateways, limit=3)
        assert (await say(two, "DELETE", "/api/v1/budgets/all"))[0] == 409
        assert (await say(two, "DELETE", "/api/v1/budgets/none"))[0] == 404
        lines = (await done(one, "GET", "/api/v1/changes"))["changes"]
        reloads = [each for each in lines if each["action"] == "config.reload"]
        assert [each["after"]["changed"] for each in reloads] == [["budgets"]], "one line, though two have read it"


async def test_a_budget_for_each_is_reset_for_one(upstream: ScriptedUpstream, tmp_path: Path, store: Any) -> None:
    """Which one has to be said; the others keep what they have spent."""
    upstream.answer = [response(200, ("Content-Type", "application/json"), body=BODY)]
    each = {"scope": "team:*", "limit_usd": "0.01", "window": "day", "mode": "strict"}
    async with processes(tmp_path, upstream, 2, **blocks(tmp_path, store, each)) as gateways:
        one, two = gateways
        assert [(await call(one, team)).status for team in ("a", "b", "a", "b")] == [200, 200, 429, 429]
        async with asyncio.timeout(10):  # a call that is not booked yet cannot be forgiven
            while any(found["held_nanousd"] for found in (await done(one, "GET", "/api/v1/budgets"))["budgets"]):
                await asyncio.sleep(0.02)
        path = "/api/v1/budgets/team:*%2Fday/reset"
        status, told = await say(two, "POST", path, {})
        assert (status, told["error"]["problems"][0]["field"]) == (422, "scope")
        assert (await say(two, "POST", path, {"scope": "user:a"}))[0] == 422
        await done(two, "POST", path, {"scope": "team:a"})
        async with asyncio.timeout(10):
            while (await call(one, "a")).status != 200:
                await asyncio.sleep(0.02)
        assert [(await call(gateway, team)).status for gateway in gateways for team in ("a", "b")] == [429] * 4


async def test_what_is_no_budget_is_told_field_by_field(upstream: ScriptedUpstream, tmp_path: Path, store: Any) -> None:
    """And changes nothing; of two operators who mean the same version, one wins."""
    async with processes(tmp_path, upstream, 1, **blocks(tmp_path, store)) as (one,):
        for body, fields in (
            ({"limit_usd": 5}, {"scope"}),
            ({"scope": "team:x"}, {"limit_usd"}),
            ({"scope": "tean:x", "limit_usd": 5, "timezone": "Mars/Olympus"}, {"scope", "timezone"}),
            ({"scope": "team:x", "limit_usd": -5, "window": "dya"}, {"limit_usd", "window"}),
            ({"scope": "team:x", "limit_usd": "0.0000000001"}, {"limit_usd"}),
            (b'{"scope": "team:x", "limit_usd": 1e-99999999}', {"limit_usd"}),
        ):
            began = time.monotonic()
            status, told = await say(one, "PUT", "/api/v1/budgets/x", body)
            assert time.monotonic() - began < 5
            assert (status, {each["field"] for each in told["error"]["problems"]}) == (422, fields)
        for limit in ("-3", "many"):
            _, told = await say(one, "PUT", "/api/v1/budgets/x", {"scope": "team:x", "limit_usd": limit})
            said = "must be dollars above 0, such as 10 or 2.50"
            assert told["error"]["problems"] == [{"field": "limit_usd", "message": said}]
        assert (await done(one, "GET", "/api/v1/changes"))["changes"] == []
        made = await done(one, "PUT", "/api/v1/budgets/x", {"scope": "team:x", "limit_usd": 5})
        match = ("If-Match", f'"v{made["version"]}"')
        tried = [say(one, "PUT", "/api/v1/budgets/x", {"limit_usd": number}, match) for number in (6, 7)]
        assert sorted(status for status, _ in await asyncio.gather(*tried)) == [200, 412]


async def test_no_call_meets_the_config_alone_while_it_is_reloaded(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """Between the new file and the next look into the store what was decided holds, keys too."""
    config = config_for(tmp_path, upstream, budgets=[STRICT], auth={"mode": "keys"}, up={"api_key": "sk-own"})
    async with in_process(tmp_path, config) as gateway:
        await done(gateway, "PUT", "/api/v1/budgets/all", {"limit_usd": "0.05"})
        made = await done(gateway, "POST", "/api/v1/keys", {"name": "ann"})
        bearer = {b"authorization": [b"Bearer " + made["key"].encode()]}
        seen = []

        async def look() -> None:
            while True:
                limits = {claim.limit_nanousd for claim in gateway.snapshot.ledger.limits(1_795_262_400.0)}
                seen.append((gateway.snapshot.version, limits, getattr(gateway.snapshot.keys.find(bearer), "name", "")))
                await asyncio.sleep(0)

        looking = asyncio.create_task(look())
        path = tmp_path / "tollgate.yaml"
        path.write_text(
            yaml.safe_dump(yaml.safe_load(path.read_text()) | {"budgets": [STRICT | {"limit_usd": "0.30"}]})
        )
        assert await gateway._reloader.reload()
        looking.cancel()
        assert len({version for version, _, _ in seen}) == 2
        assert [each for each in seen if each[1:] != ({5 * CENT}, "ann")] == []


async def test_the_log_says_what_the_config_said_before_the_first_decision(
    upstream: ScriptedUpstream, tmp_path: Path, store: Any
) -> None:
    """Of a budget that stands there, each time that none was decided; with a budget that comes with a key as well. What nobody knew had
    nothing before it.
    """
    limits = [STRICT | {"notify_at": [80]}, {"scope": "key:ann", "limit_usd": 3, "window": "day"}]
    async with processes(tmp_path, upstream, 1, **blocks(tmp_path, store, *limits)) as (one,):
        await done(one, "PUT", "/api/v1/budgets/all", {"limit_usd": "0.90"})
        await done(one, "PUT", "/api/v1/budgets/all", {"limit_usd": "1.00"})
        await done(one, "DELETE", "/api/v1/budgets/all")
        await done(one, "PUT", "/api/v1/budgets/all", {"window": "day"})
        await done(one, "PUT", "/api/v1/budgets/new", {"scope": "team:new", "limit_usd": 2})
        await done(one, "POST", "/api/v1/keys", {"name": "ann", "budget": {"limit_usd": 7, "window": "day"}})
        lines = (await done(one, "GET", "/api/v1/changes"))["changes"]
        budgets = {each["revision"]: each for each in lines if each["action"].startswith("budget.")}
        first, second, gone, again, new, with_key = (budgets[number] for number in sorted(budgets))
        fields = ("name", "scope", "limit_usd", "window", "mode", "notify_at")
        of_config = {"name": "all"} | {field: limits[0][field] for field in fields}
        assert {field: first["before"][field] for field in fields} == of_config
        assert {field: first["after"][field] for field in fields} == of_config | {"limit_usd": "0.90"}
        assert "by" not in first["before"]
        assert (second["before"], gone["before"], gone["after"]) == (first["after"], second["after"], None)
        assert again["before"] == first["before"]
        assert new["before"] is None
        assert (with_key["before"]["name"], with_key["before"]["limit_usd"]) == ("key:ann/day", "3.00")
        told = (await tollgate(tmp_path, "changes")).output.splitlines()
        (raised,) = (line for line in told if "limit_usd=0.90" in line)
        assert "window=" not in raised, "what is as it was is no change"


async def test_a_list_says_how_to_see_the_accounts_of_a_budget_that_is_one_for_each(
    upstream: ScriptedUpstream, tmp_path: Path, store: Any
) -> None:
    """Below the table, where nobody was asked for; a budget with one account needs no word, one on single calls has none to show."""
    each = {"scope": "team:*", "limit_usd": 1, "window": "day"}
    async with processes(tmp_path, upstream, 1, **blocks(tmp_path, store, STRICT, each)):
        last = (await tollgate(tmp_path, "budgets", "list")).output.splitlines()[-1]
        assert last == "team:*: one account for each. --scope shows one of them, /api/v1/budgets of a gateway all."
        assert "one account for each" not in (await tollgate(tmp_path, "budgets", "list", "--scope", "team:a")).output
        path = tmp_path / "0" / "tollgate.yaml"
        alone = [STRICT, {"scope": "call", "limit_usd": 1}]
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"budgets": alone}))
        assert "one account for each" not in (await tollgate(tmp_path, "budgets", "list")).output
