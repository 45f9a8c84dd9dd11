"""Prometheus and Alertmanager as they are installed, with our own rules: what a gateway counts wakes who is to be woken."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.harness.books import CHAT, MINI, post
from tests.harness.gateways import GatewayProcess, config_for, free_port
from tests.harness.messages import response
from tests.harness.raw_client import ask
from tests.harness.scripted import ScriptedUpstream
from tests.harness.webhooks import Received, Receiver

pytestmark = pytest.mark.real

CONFIG = Path(__file__).parents[2] / "config"
RULES, ROUTES = CONFIG / "prometheus", CONFIG / "alertmanager" / "alertmanager.yml"
PATIENCE_S = 60.0
TOKEN = "a-token-for-scrapes"
ROUTING_KEY = "a-routing-key"


def program(*names: str) -> str:
    """The first of these that is installed."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"{names[0]} is not installed")
    return found


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_config_of_prometheus_is_one() -> None:
    """Its rules as well."""
    run(program("promtool"), "check", "config", str(RULES / "prometheus.yml"))
    run(program("promtool"), "check", "rules", "--lint=all", "--lint-fatal", str(RULES / "alerts.yml"))


@pytest.mark.parametrize("cases", ["alerts_test.yml", "targets_test.yml"])
def test_alerts_fire_when_they_should_and_only_then(cases: str) -> None:
    """By Prometheus' own evaluation."""
    run(program("promtool"), "test", "rules", str(RULES / cases))


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        ({"alertname": "TollgateStoreDown", "severity": "critical"}, "pagerduty,slack"),
        ({"alertname": "TollgateOverdraft", "severity": "warning"}, "slack"),
        ({"alertname": "TollgateBudgetSpent", "severity": "critical", "scope": "team:a"}, "pagerduty,slack"),
        ({"alertname": "TollgateBudgetSpent", "severity": "critical", "scope": "user:ann"}, "slack"),
    ],
)
def test_alertmanager_tells_the_right_people(labels: dict[str, str], receivers: str) -> None:
    """By its own reading of the routes."""
    amtool = program("amtool")
    run(amtool, "check-config", str(ROUTES))
    told = run(amtool, "config", "routes", "test", f"--config.file={ROUTES}", *(f"{k}={v}" for k, v in labels.items()))
    assert told.strip() == receivers


# -- all of it at once ----------------------------------------------------------------------------------------------------


def prometheus_config(folder: Path, gateway: GatewayProcess, alertmanager_port: int) -> Path:
    """Ours, at another pace, and with the token that stands there as a comment."""
    config = yaml.safe_load((RULES / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{alertmanager_port}"]
    (job,) = config["scrape_configs"]
    job["static_configs"][0]["targets"] = [f"127.0.0.1:{gateway.admin_port}"]
    (folder / "token").write_text(f"{TOKEN}\n")
    job["authorization"] = {"type": "Bearer", "credentials_file": str(folder / "token")}
    rules = yaml.safe_load((RULES / "alerts.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = "1s"
    (folder / "alerts.yml").write_text(yaml.safe_dump(rules))
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path


def alertmanager_config(folder: Path, slack: Receiver, pagerduty: Receiver) -> Path:
    """Ours, with secrets in files as it wants them, and without its patience."""
    config = yaml.safe_load(ROUTES.read_text())
    (folder / "slack-url").write_text(slack.url)
    (folder / "pagerduty-key").write_text(ROUTING_KEY)
    config["global"]["slack_api_url_file"] = str(folder / "slack-url")
    for receiver in config["receivers"]:
        for each in receiver.get("pagerduty_configs", []):
            each |= {"url": pagerduty.url, "routing_key_file": str(folder / "pagerduty-key")}
    for route in (config["route"], *config["route"]["routes"]):
        route |= {"group_wait": "0s", "group_interval": "1s"}
    path = folder / "alertmanager.yml"
    path.write_text(yaml.safe_dump(config))
    return path


@asynccontextmanager
async def serving(folder: Path, name: str, *command: str, port: int) -> AsyncIterator[str]:
    """A server for as long as the block lasts; yields its address once it is ready."""
    url = f"http://127.0.0.1:{port}"
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(*command, cwd=folder, stdout=output, stderr=output)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not await is_ready(url):
                assert process.returncode is None, log.read_text()[-2000:]
                await asyncio.sleep(0.05)
        yield url
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def is_ready(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/-/ready") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def fetched(url: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.json()


async def until(true: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await true():
            await asyncio.sleep(0.1)


def of(alert: str, *states: str) -> Callable[[Received], bool]:
    """Messages about an alert, in Slack's form or in PagerDuty's."""

    def is_about(received: Received) -> bool:
        text = received.body.decode()
        return alert in text and all(state in text for state in states)

    return is_about


@asynccontextmanager
async def watched(folder: Path, **blocks: Any) -> AsyncIterator[tuple[GatewayProcess, str, Receiver, Receiver]]:
    """A gateway, Prometheus and Alertmanager; yields the gateway, Alertmanager's address, and who listens behind it."""
    binary = program("prometheus")
    manager = program("prometheus-alertmanager", "alertmanager")
    usage = {"prompt_tokens": 5000, "completion_tokens": 400}
    body = json.dumps({"model": "gpt-4o-mini", "choices": [], "usage": usage}).encode()
    script = [response(200, ("Content-Type", "application/json"), body=body)]
    async with ScriptedUpstream(script) as upstream, Receiver() as slack, Receiver() as pagerduty:
        gateway = GatewayProcess(folder, config_for(folder, upstream, admin={"token": TOKEN}, **blocks))
        try:
            await gateway.start()
            port, manager_port = free_port(), free_port()
            manager_command = (
                manager, f"--config.file={alertmanager_config(folder, slack, pagerduty)}", "--cluster.listen-address=",
                f"--web.listen-address=127.0.0.1:{manager_port}", f"--storage.path={folder / 'alertmanager'}",
            )  # fmt: skip
            command = (
                binary, f"--config.file={prometheus_config(folder, gateway, manager_port)}",
                f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={folder / 'prometheus'}",
            )  # fmt: skip
            async with (
                serving(folder, "alertmanager", *manager_command, port=manager_port) as url,
                serving(folder, "prometheus", *command, port=port),
            ):
                yield gateway, url, slack, pagerduty
        finally:
            await gateway.kill()


async def test_a_budget_that_is_spent_wakes_somebody(tmp_path: Path) -> None:
    """80 % is written down, 100 % wakes, and then 80 % is no longer worth a word; a gateway that dies wakes as well."""
    budgets = [{"scope": "team:a", "limit_usd": "0.0011", "mode": "soft", "window": "total"}]
    async with watched(tmp_path, budgets=budgets) as (gateway, manager, slack, pagerduty):

        async def call() -> None:
            answer = await ask(gateway.front_port, post(CHAT, MINI, "", ("X-Tollgate-Team", "a")))
            assert answer.status == 200

        async def nearly_spent_is_quiet() -> bool:
            query = "api/v2/alerts?filter=alertname=TollgateBudgetNearlySpent"
            return [each["status"]["state"] for each in await fetched(f"{manager}/{query}")] == ["suppressed"]

        await call()
        async with asyncio.timeout(PATIENCE_S):
            (nearly,) = await slack.until_some(of("TollgateBudgetNearlySpent", "FIRING"))
            assert not any(map(of("TollgateBudget"), pagerduty.received))
            assert "team:a has spent 90% of team:a/total" in nearly.json["attachments"][0]["text"]
            await call()
            (woken,) = await pagerduty.until_some(of("TollgateBudgetSpent"))
            await slack.until_some(of("TollgateBudgetSpent", "FIRING"))
        assert (woken.json["event_action"], woken.json["routing_key"]) == ("trigger", ROUTING_KEY)
        assert woken.json["payload"]["severity"] == "critical"
        assert "team:a has spent all of team:a/total (180%)" in woken.json["payload"]["summary"]
        await until(nearly_spent_is_quiet)
        await gateway.kill()
        await pagerduty.until_some(of("TollgateGone"))
