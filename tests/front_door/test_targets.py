"""Targets, as operators see them: what misses, what does not count, over restarts, replicas and an outage of the store."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from prometheus_client.parser import text_string_to_metric_families

from gateway.observe import end_to_end, objectives
from gateway.simulator import Simulator
from tests.harness.books import CHAT, MINI, look, post
from tests.harness.gateways import GatewayProcess, config_for, in_process, record_of
from tests.harness.raw_client import Answer, ask
from tests.harness.redis_servers import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[2]
FAST: dict[str, Any] = {"name": "fast", "latency_ms": 300, "objective": 0.9}
SLOW = "delay=0.4"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute of silence is a second, and all is looked at all the time."""
    monkeypatch.setattr(end_to_end, "QUIET_S", 1.0)
    monkeypatch.setattr(objectives, "FLUSH_S", 0.05)
    monkeypatch.setattr(objectives, "LOOK_S", 0.05)


async def say(gateway: Any, wish: str = "", *fields: tuple[str, str], booked: bool = True, **more: Any) -> Answer:
    """One call, told to the sinks."""
    answer = await ask(gateway.front_port, post(CHAT, MINI | more, wish, *fields))
    if booked:
        await record_of(gateway.admin_url, answer.head.value(b"x-tollgate-call-id"))
    return answer


async def told(gateway: Any, name: str = "fast", window: str = "1h") -> tuple[int, int]:
    """(calls, missed) of a target."""
    found = json.loads(await look(gateway, "/api/v1/targets"))["targets"]
    of_window = next(each for each in found if each["name"] == name)["windows"][window]
    return (of_window["calls"], of_window["missed"])


async def until_told(gateway: Any, calls: int, missed: int, name: str = "fast") -> None:
    async with asyncio.timeout(20):
        while await told(gateway, name) != (calls, missed):
            await asyncio.sleep(0.05)


async def metrics(gateway: Any) -> dict[tuple[str, ...], float]:
    """By name and labels."""
    text = (await look(gateway, "/metrics")).decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("llm_target_")
    }


async def test_slow_answers_miss_a_target(provider: Simulator, tmp_path: Path) -> None:
    """Counted in the metrics of the process and told over all windows; another target's calls are another's."""
    targets = [FAST, {"name": "gone", "match": {"model": "claude-*"}}, {"name": "first-byte", "ttft_ms": 300, "match": {"team": "sea*"}}]  # fmt: skip
    async with in_process(tmp_path, config_for(tmp_path, provider.url, targets=targets)) as gateway:
        for wish in ("", "", "", SLOW):
            await say(gateway, wish, ("X-Tollgate-Team", "search"))
        await until_told(gateway, 4, 1)
        await until_told(gateway, 4, 1, "first-byte")
        for window in ("24h", "7d"):
            assert await told(gateway, window=window) == (4, 1)
        assert await told(gateway, "gone") == (0, 0)
        found = await metrics(gateway)
        assert found == {
            ("llm_target_calls_total", "fast"): 4,
            ("llm_target_violations_total", "fast"): 1,
            ("llm_target_calls_total", "first-byte"): 4,
            ("llm_target_violations_total", "first-byte"): 1,
            **{("llm_target_compliance_ratio", name, window): 0.75 for name in ("fast", "first-byte") for window in ("1h", "24h", "7d")},
            ("llm_target_objective_ratio", "fast"): 0.9,
            ("llm_target_objective_ratio", "gone"): 0.99,
            ("llm_target_objective_ratio", "first-byte"): 0.99,
        }  # fmt: skip


async def test_what_the_caller_did_wrong_does_not_count(provider: Simulator, tmp_path: Path) -> None:
    """Neither way; what the provider or the gateway did is a miss."""
    budgets = [{"scope": "team:poor", "limit_usd": "0.000000001"}]
    blocks: dict[str, Any] = {"targets": [FAST], "budgets": budgets, "metering": {"unpriced": "refuse"}}
    async with in_process(tmp_path, config_for(tmp_path, provider.url, **blocks)) as gateway:
        statuses = [(await say(gateway, f"status={status}")).status for status in (400, 404, 429, 500, 503)]
        statuses.append((await say(gateway, "", ("X-Tollgate-Team", "poor"))).status)
        statuses.append((await say(gateway, "", model="nobody-knows-it")).status)
        statuses.append((await say(gateway, "", ("X-Tollgate-Team", "a"), ("X-Tollgate-Team", "b"))).status)
        statuses.append((await say(gateway, "cut=0")).status)
        statuses.append((await say(gateway)).status)
        assert statuses == [400, 404, 429, 500, 503, 429, 403, 400, 502, 200]
        await until_told(gateway, 5, 4)


async def test_a_client_that_leaves_counts_only_when_it_was_late(provider: Simulator, tmp_path: Path) -> None:
    """Before that nobody knows what would have become of its answer."""
    async with in_process(tmp_path, config_for(tmp_path, provider.url, targets=[FAST])) as gateway:
        for patience_s in (0.05, 0.5):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await ask(gateway.front_port, post(CHAT, MINI, "delay=5"))
        await say(gateway)
        await until_told(gateway, 2, 1)


async def test_a_restart_keeps_what_was_counted(provider: Simulator, tmp_path: Path) -> None:
    """It is in the store, beside the books."""
    config = config_for(tmp_path, provider.url, targets=[FAST])
    for number in (1, 2, 3):
        async with in_process(tmp_path, config) as gateway:
            await say(gateway)
            await say(gateway, SLOW)
            await until_told(gateway, 2 * number, number)
            assert (await metrics(gateway))[("llm_target_calls_total", "fast")] == 2


async def test_a_gateway_that_stops_hands_over_what_it_counted(provider: Simulator, tmp_path: Path) -> None:
    """In the moment after a call, before it does so by itself."""
    config = config_for(tmp_path, provider.url, targets=[FAST])
    async with in_process(tmp_path, config) as gateway:
        await say(gateway, SLOW, booked=False)
    async with in_process(tmp_path, config) as gateway:
        await until_told(gateway, 1, 1)


RUN: dict[str, Any] = {"name": "run", "of": "request", "latency_ms": 10_000, "objective": 0.9}


async def test_a_gateway_that_stops_judges_open_requests(provider: Simulator, tmp_path: Path) -> None:
    """Nobody else would: their calls were seen here."""
    config = config_for(tmp_path, provider.url, targets=[RUN])
    async with in_process(tmp_path, config) as gateway:
        for _ in range(3):
            await say(gateway, "", ("X-Correlation-Id", "open"))
        assert await told(gateway, "run") == (0, 0)
    async with in_process(tmp_path, config) as gateway:
        await until_told(gateway, 1, 0, "run")


async def test_a_call_that_takes_longer_than_the_silence_belongs_to_its_request(
    provider: Simulator, tmp_path: Path, hurried: None
) -> None:
    """It is on its way here: nothing is judged before it ends."""
    async with in_process(tmp_path, config_for(tmp_path, provider.url, targets=[RUN])) as gateway:
        await say(gateway, "", ("X-Correlation-Id", "long"))
        await say(gateway, "delay=2.5", ("X-Correlation-Id", "long"))
        assert await told(gateway, "run") == (0, 0)
        await until_told(gateway, 1, 0, "run")


async def test_who_scrapes_gets_the_latest(provider: Simulator, tmp_path: Path) -> None:
    """Not what was looked at a quarter of a minute ago."""
    async with in_process(tmp_path, config_for(tmp_path, provider.url, targets=[FAST])) as gateway:
        for wish, ratio in (("", 1.0), (SLOW, 0.5)):
            await say(gateway, wish)
            async with asyncio.timeout(10):
                while (await metrics(gateway)).get(("llm_target_compliance_ratio", "fast", "1h")) != ratio:
                    await asyncio.sleep(0.05)


async def test_kill_9_loses_no_more_than_the_last_seconds(provider: Simulator, tmp_path: Path) -> None:
    """What was handed over stays; what comes then is added to it."""
    config = config_for(tmp_path, provider.url, targets=[FAST])
    process = GatewayProcess(tmp_path, config)
    await process.start()
    try:
        await say(process, SLOW)
        await until_told(process, 1, 1)
        await process.kill()
        await process.start()
        await say(process)
        await until_told(process, 2, 1)
    finally:
        await process.kill()


async def test_gateways_of_one_redis_are_summed(
    provider: Simulator, server: Server, tmp_path: Path, hurried: None
) -> None:
    """Each tells the same of both; a request of calls through both is counted once, by the one that saw its end."""
    async with AsyncExitStack() as stack:
        gateways = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            store = {"url": server.tcp_url, "journal": str(tmp_path / name / "journal")}
            config = config_for(tmp_path / name, provider.url, targets=[FAST, RUN], store=store)
            gateways.append(await stack.enter_async_context(in_process(tmp_path / name, config)))
        one, two = gateways
        for gateway, wish in ((one, ""), (two, SLOW), (two, ""), (one, SLOW)):
            await say(gateway, wish, ("X-Correlation-Id", "agent-run"))
        await say(two)
        for gateway in gateways:
            await until_told(gateway, 5, 2)
            await until_told(gateway, 2, 0, "run")
        for gateway, wish in ((one, ""), (two, "status=500")):
            await say(gateway, wish, ("X-Correlation-Id", "another-run"))
        for gateway in gateways:
            await until_told(gateway, 3, 1, "run")
        counted = [(await metrics(gateway)).get(("llm_target_calls_total", "run"), 0) for gateway in gateways]
        assert counted == [1, 2]


async def test_what_is_counted_in_an_outage_is_added_when_it_is_over(
    provider: Simulator, server: Server, tmp_path: Path
) -> None:
    """Calls that the gateway refuses for want of its store miss; each counts once."""
    blocks: dict[str, Any] = {
        "store": {"url": server.tcp_url, "timeout": "1s", "journal": str(tmp_path / "journal")},
        "budgets": [{"scope": "team:limited", "limit_usd": 1}],
        "targets": [FAST | {"latency_ms": 5000}],
    }
    async with in_process(tmp_path, config_for(tmp_path, provider.url, **blocks)) as gateway:
        await say(gateway)
        await until_told(gateway, 1, 0)
        server.freeze()
        async with asyncio.timeout(20):
            while b"\ntollgate_store_up 1.0" in await look(gateway, "/metrics"):
                await asyncio.sleep(0.05)
        answers = [await say(gateway, "", ("X-Tollgate-Team", team), booked=False) for team in ("limited", "free")]
        assert [answer.status for answer in answers] == [503, 200]
        await until_told(gateway, 3, 1)
        server.thaw()
        async with asyncio.timeout(20):
            while b"\ntollgate_store_up 0.0" in await look(gateway, "/metrics"):
                await asyncio.sleep(0.05)
        await say(gateway)
        await until_told(gateway, 4, 1)
    (tmp_path / "other").mkdir()
    blocks["store"]["journal"] = str(tmp_path / "other" / "journal")
    async with in_process(tmp_path / "other", config_for(tmp_path / "other", provider.url, **blocks)) as gateway:
        await until_told(gateway, 4, 1)


async def test_a_burning_target_is_told_and_told_to_be_over(
    provider: Simulator, tmp_path: Path, hurried: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """A line in the log each, with names and numbers; ten calls are needed."""

    async def said(text: str) -> str:
        found = ""
        async with asyncio.timeout(20):
            while not re.search(text, found):
                await asyncio.sleep(0.05)
                found += capfd.readouterr().err
        return found

    targets = [FAST | {"latency_ms": 60_000}]
    async with in_process(tmp_path, config_for(tmp_path, provider.url, targets=targets)) as gateway:
        for _ in range(9):
            await say(gateway, "status=500")
        await until_told(gateway, 9, 9)
        assert "burns" not in capfd.readouterr().err
        await say(gateway, "status=500")
        line = await said("target fast burns its error budget 10.0 times too fast: .* 0.00 % met it, 90 % must")
        assert line.count("burns") == 1
        for _ in range(25):
            await say(gateway)
        await said("target fast no longer burns")


async def test_targets_change_while_the_gateway_runs(provider: Simulator, tmp_path: Path) -> None:
    """Calls that end from then on are held to the new ones; what a name has counted stays its own."""
    async with in_process(tmp_path, config_for(tmp_path, provider.url, targets=[FAST])) as gateway:
        await say(gateway, SLOW)
        await until_told(gateway, 1, 1)
        path = tmp_path / "tollgate.yaml"
        config = yaml.safe_load(path.read_text())
        config["targets"] = [FAST | {"latency_ms": 10_000}, {"name": "new"}]
        path.write_text(yaml.safe_dump(config))
        gateway.reload()
        async with asyncio.timeout(20):
            while len(json.loads(await look(gateway, "/api/v1/targets"))["targets"]) == 1:
                await asyncio.sleep(0.05)
        await say(gateway, SLOW)
        await until_told(gateway, 2, 1)
        await until_told(gateway, 1, 0, "new")


async def test_the_example_of_the_docs_runs(provider: Simulator, tmp_path: Path, hurried: None) -> None:
    """Word for word; its targets speak of the calls that it says."""
    text = (ROOT / "docs" / "targets.md").read_text()
    example = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0])
    async with in_process(tmp_path, config_for(tmp_path, provider.url, **example)) as gateway:
        await say(gateway, "", ("X-Tollgate-Call-Type", "routing"))
        await say(gateway, "", ("X-Tollgate-Team", "search-eu"))
        await say(gateway, "", ("X-Tollgate-Agent", "planner"), ("X-Correlation-Id", "run"))
        await say(gateway, "", ("X-Tollgate-Agent", "writer"), ("X-Correlation-Id", "run"))
        for name in ("routing", "search", "agent-runs"):
            await until_told(gateway, 1, 0, name)
        run = json.loads(await look(gateway, "/api/v1/requests/run"))
        assert (run["count"], run["errors"]) == (2, 0)


async def test_a_request_tells_how_long_it_took_and_what_failed(provider: Simulator, tmp_path: Path) -> None:
    """From the first call's start to the last one's end, with the pauses in between."""
    async with in_process(tmp_path, config_for(tmp_path, provider.url)) as gateway:
        for wish in ("delay=0.2", "status=500", ""):
            await say(gateway, wish, ("X-Correlation-Id", "run"))
            await asyncio.sleep(0.1)
        run = json.loads(await look(gateway, "/api/v1/requests/run"))
        assert (run["count"], run["errors"]) == (3, 1)
        assert 400 <= run["duration_ms"] < 20_000
        assert run["duration_ms"] > sum(call["latency_ms"] for call in run["calls"]) + 190
