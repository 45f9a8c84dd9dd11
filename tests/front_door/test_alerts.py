"""The gateway's own webhooks: what calls give occasion to reaches who is to know, and no call pays for it."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.front_door.conftest import Serve
from tests.harness.books import CHAT, MINI, look, post
from tests.harness.messages import response
from tests.harness.raw_client import ask
from tests.harness.redis_servers import Server
from tests.harness.scripted import ScriptedUpstream
from tests.harness.webhooks import Received, Receiver

pytestmark = pytest.mark.asyncio(loop_scope="module")

SPENT = 990_000
"""Nano-dollars of one answer, at gpt-4o-mini's prices."""
ODD_MODEL = "<!channel>&co"


def answered(model: str = "gpt-4o-mini") -> bytes:
    usage = {"prompt_tokens": 5000, "completion_tokens": 400}
    body = json.dumps({"model": model, "choices": [], "usage": usage}).encode()
    return response(200, ("Content-Type", "application/json"), body=body)


def hook(receiver: Receiver, kind: str = "generic", **more: Any) -> dict[str, Any]:
    return {"url": receiver.url, "kind": kind, "secret": "whsec_aHVzaCBodXNoIGh1c2ggaHVzaA==", **more}


async def call(gateway: Any, model: str = "gpt-4o-mini") -> int:
    body = MINI | {"model": model, "max_tokens": 50}
    return (await ask(gateway.front_port, post(CHAT, body, "", ("X-Tollgate-Team", "a")))).status


def keys(received: list[Received]) -> list[str]:
    return [re.sub(r"\d{4}-\d\d-\d\d", "TODAY", each.json["data"]["key"]) for each in received]


async def counted(gateway: Any) -> dict[tuple[str, str], float]:
    text = (await look(gateway, "/metrics")).decode()
    found = re.findall(r'^tollgate_webhook_deliveries_total\{kind="(\w+)",outcome="(\w+)"\} (\S+)$', text, re.MULTILINE)
    return {(kind, outcome): float(value) for kind, outcome, value in found}


async def test_a_budget_on_its_way_is_told(upstream: ScriptedUpstream, serve: Serve) -> None:
    """80 %, 100 %, and that it was overdrawn: once each, though every call after the first overdraws it."""
    upstream.answer = [answered()]
    budgets = [{"scope": "team:a", "limit_usd": "0.00115", "notify_at": [80, 100], "mode": "soft"}]
    async with Receiver(503) as receiver:
        gateway = await serve(budgets=budgets, alerts={"webhooks": [hook(receiver)]})
        await call(gateway)
        (first, again) = await receiver.until(2)
        await call(gateway)
        received = await receiver.until(4)
        async with asyncio.timeout(10):
            while await counted(gateway) != {("generic", "delivered"): 3}:
                await asyncio.sleep(0.01)
    assert first.body == again.body, "a retry is the same message"
    assert first.fields["webhook-id"] == again.fields["webhook-id"]
    assert all(each.is_signed_with(b"hush hush hush hush") for each in received)
    assert sorted(keys(received[1:])) == [
        "budget/team:a/day/team:a/day:TODAY/100/0.00115",
        "budget/team:a/day/team:a/day:TODAY/80/0.00115",
        "overdraft/team:a/day/team:a/day:TODAY",
    ]
    data = again.json["data"]
    assert (data["state"], data["severity"]) == ("told", "warning")
    assert data["text"].startswith("budget team:a/day has come to 80 % of $0.00115: team:a/day:")
    assert (data["facts"]["limit_usd"], data["facts"]["spent_usd"]) == ("0.00115", "0.00099")
    overdraft = next(each.json["data"] for each in received if "overdraft" in each.json["data"]["key"])
    assert overdraft["facts"]["past_usd"] == "0.00083"


async def test_a_model_without_a_price_is_told_and_cannot_call_anybody(
    upstream: ScriptedUpstream, serve: Serve, capfd: pytest.CaptureFixture[str]
) -> None:
    """Once, in Slack's words: what a caller names a model is text there, and one line in the log."""
    upstream.answer = [answered(ODD_MODEL)]
    async with Receiver() as receiver, Receiver() as deaf:
        hooks = [hook(receiver, "slack"), hook(deaf, on=["target"])]
        gateway = await serve(alerts={"webhooks": hooks})
        for _ in range(2):
            assert await call(gateway, ODD_MODEL) == 200
        (received,) = await receiver.until(1)
        await look(gateway, "/metrics")
    assert received.json["text"].startswith("Warning: no price for model '&lt;!channel&gt;&amp;co' of openai")
    assert len(receiver.received) == 1
    assert not deaf.received
    log = capfd.readouterr().err
    assert log.count("no price for model") == 1


async def test_a_receiver_that_hangs_costs_calls_nothing(upstream: ScriptedUpstream, serve: Serve) -> None:
    """All are answered and booked while it keeps its connection."""
    upstream.answer = [answered()]
    budgets = [{"scope": "team:a", "limit_usd": "0.001", "mode": "soft", "notify_at": [10, 50, 90]}]
    async with Receiver(*[None] * 100) as receiver:
        gateway = await serve(budgets=budgets, alerts={"webhooks": [hook(receiver)]})
        assert await call(gateway) == 200
        await receiver.until(1)
        async with asyncio.timeout(10):
            statuses = [await call(gateway, f"odd-{number}") for number in range(30)]
            while b"llm_queue_depth 0.0" not in await look(gateway, "/metrics"):
                await asyncio.sleep(0.01)
        assert set(statuses) <= {200, 429}
        assert receiver.most_at_once == 1
        assert await counted(gateway) == {}


async def test_a_reload_changes_who_is_told(upstream: ScriptedUpstream, serve: Serve, tmp_path: Path) -> None:
    """Without a restart."""
    upstream.answer = [answered("odd")]
    async with Receiver() as old, Receiver() as new:
        gateway = await serve(alerts={"webhooks": [hook(old)]})
        await call(gateway, "odd-1")
        await old.until(1)
        path = tmp_path / "tollgate.yaml"
        config = yaml.safe_load(path.read_text())
        config["alerts"] = {"webhooks": [hook(new)]}
        before = gateway.snapshot.version
        path.write_text(yaml.safe_dump(config))
        gateway.reload()
        async with asyncio.timeout(10):
            while gateway.snapshot.version == before:
                await asyncio.sleep(0.01)
        upstream.answer = [answered("odder")]
        await call(gateway, "odd-2")
        await new.until(1)
    assert len(old.received) == 1


async def test_addresses_and_secrets_are_shown_nowhere(
    upstream: ScriptedUpstream, serve: Serve, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither in the config that operators see, nor in metrics, nor in the log, when it fails as when it works."""
    upstream.answer = [answered("odd")]
    async with Receiver(400) as receiver:
        gateway = await serve(alerts={"webhooks": [hook(receiver)]})
        await call(gateway, "odd")
        await receiver.until(1)
        async with asyncio.timeout(10):
            while await counted(gateway) != {("generic", "failed"): 1}:
                await asyncio.sleep(0.01)
        shown = await look(gateway, "/api/v1/config") + await look(gateway, "/metrics")
    captured = capfd.readouterr()
    for text in (shown.decode(), captured.err, captured.out):
        assert "hush-hush" not in text
        assert "aHVzaCBodXNo" not in text
    assert "webhook 1 (generic) was not told of pricing/openai/odd: it answered 400" in captured.err


async def test_a_store_that_goes_away_and_comes_back_is_told(
    upstream: ScriptedUpstream, serve: Serve, server: Server, tmp_path: Path
) -> None:
    """As one incident with a beginning and an end."""
    store = {"url": server.tcp_url, "timeout": "2s", "journal": str(tmp_path / "journal")}
    async with Receiver() as receiver:
        hooks = [hook(receiver, "pagerduty", secret="the-key", on=["store"])]
        await serve(store=store, alerts={"webhooks": hooks})
        server.kill()
        (down,) = await receiver.until(1)
        server.start()
        (_, up) = await receiver.until(2)
    assert (down.json["event_action"], up.json["event_action"]) == ("trigger", "resolve")
    assert down.json["dedup_key"] == up.json["dedup_key"] == "store/up"
    assert down.json["routing_key"] == "the-key"
    assert down.json["payload"]["severity"] == "critical"
