"""What is told of events: a line in the log, a webhook, a metric, each as often as it helps."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest

from gateway.accounts import Account, Claim, Notice
from gateway.kinds import Secret
from gateway.observe.events import Event
from gateway.settings import Alerts, Metrics, Observability, Otlp, Settings, Tracing, Webhook
from gateway.telemetry import Telemetry
from pricing.book import Book
from tests.harness.receivers import Receiver as Traced
from tests.harness.webhooks import Receiver
from tests.unit.observe.test_metrics import RECORD

CLAIM = Claim(Account("team:a", "day:2026-11-21"), 5, limit_nanousd=10**9, budget="teams", window="day")


def book() -> Book:
    raise AssertionError("nobody asks for prices here")


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The log can be read, whoever set it up before."""
    monkeypatch.setattr(logging.getLogger("gateway"), "propagate", True)
    caplog.set_level(logging.INFO, "gateway")


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_a_budget_that_every_call_overdraws_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """The metric counts all of it; another window is another line."""
    telemetry = Telemetry(Settings(), book)
    for _ in range(3):
        telemetry.tell_overdraft(CLAIM, 2_000_000)
    telemetry.tell_overdraft(Claim(Account("team:a", "day:2026-11-22"), 5, limit_nanousd=10**9, budget="teams"), 1)
    assert b'llm_budget_overdraft_usd_total{budget="teams"} 0.006000001' in telemetry.metrics.render()
    assert lines(caplog) == [
        (
            "WARNING",
            "budget teams is overdrawn: a call of team:a/day:2026-11-21 went $0.002 past its limit of $1.00",
        ),
        (
            "WARNING",
            "budget teams is overdrawn: a call of team:a/day:2026-11-22 went $0.000000001 past its limit of $1.00",
        ),
    ]


def test_a_model_without_a_price_is_a_line_that_no_caller_shapes(caplog: pytest.LogCaptureFixture) -> None:
    """Nor makes endless."""
    Telemetry(Settings(), book).tell_unpriced(replace(RECORD, model_requested="odd\nline" + "x" * 500, model_served=""))
    ((level, line),) = lines(caplog)
    assert level == "WARNING"
    assert line.startswith("no price for model 'odd\\nlinexxx")
    assert len(line) < 200
    assert caplog.records[0].call_id == "c1"  # type: ignore[attr-defined]


def test_an_end_is_good_news(caplog: pytest.LogCaptureFixture) -> None:
    """No line of the log asks for attention that nothing needs any more."""
    telemetry = Telemetry(Settings(), book)
    for state in ("firing", "resolved"):
        telemetry.tell(Event("store", "store/up", state, "critical", f"it is {state}"))
    assert lines(caplog) == [("ERROR", "it is firing"), ("INFO", "it is resolved")]


async def test_notices_go_to_the_webhooks_of_the_config() -> None:
    """Those that want them; 100 % is critical."""
    async with Receiver() as receiver:
        hooks = (
            Webhook(url=Secret(receiver.url), on=("store",)),
            Webhook(url=Secret(receiver.url), kind="pagerduty", secret=Secret("key"), on=("budget",)),
        )
        telemetry = Telemetry(Settings(alerts=Alerts(hooks)), book)
        telemetry.start(nothing_to_read)
        account = Account("team:a", "day:2026-11-21")
        telemetry.tell_notices([Notice(account, "teams", percent, 10**9, 10**9) for percent in (80, 100)])
        received = await receiver.until(2)
        await telemetry.stop()
    assert [each.json["payload"]["severity"] for each in received] == ["warning", "critical"]
    assert len(receiver.received) == 2
    assert b'tollgate_webhook_deliveries_total{kind="pagerduty",outcome="delivered"} 2.0' in telemetry.metrics.render()


async def test_one_part_that_cannot_end_does_not_keep_the_others_from_it(monkeypatch, caplog) -> None:
    """The store is closed after this: it must come back, whatever breaks, and say what did."""
    async with Traced() as receiver:
        tracing = Tracing(enabled=True, endpoint=receiver.url)
        metrics = Metrics(otlp=Otlp(enabled=True, endpoint=receiver.url))
        telemetry = Telemetry(Settings(observability=Observability(tracing=tracing, metrics=metrics)), book)
        telemetry.start(nothing_to_read)
        monkeypatch.setattr(logging.getLogger("gateway"), "propagate", True)  # which the start has set
        monkeypatch.setattr(telemetry._tracers[0].exporter._transport, "close", broken)
        await telemetry.stop()
    assert receiver.metrics, "the last figures were not pushed"
    assert ("ERROR", "telemetry did not end well: RuntimeError") in lines(caplog)


async def test_health_tells_of_metrics_that_do_not_go_out() -> None:
    """As of spans."""
    async with Traced() as receiver:
        receiver.answer = lambda: 400
        metrics = Metrics(otlp=Otlp(enabled=True, endpoint=receiver.url, interval=0.05))
        telemetry = Telemetry(Settings(observability=Observability(metrics=metrics)), book)
        telemetry.start(nothing_to_read)
        async with asyncio.timeout(10):
            while telemetry.failing() != ["metrics"]:
                await asyncio.sleep(0.01)
        receiver.answer = lambda: 200
        async with asyncio.timeout(10):
            while telemetry.failing():
                await asyncio.sleep(0.01)
        await telemetry.stop()


async def broken() -> None:
    raise RuntimeError("secret words")


async def nothing_to_read() -> None:
    """No gauge shows anything."""
