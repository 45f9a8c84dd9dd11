"""What is told of events: a line in the log, a webhook, a metric, each as often as it helps."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from gateway.accounts import Account, Claim, Notice
from gateway.kinds import Secret
from gateway.observe.events import Event
from gateway.settings import Alerts, Settings, Webhook
from gateway.telemetry import Telemetry
from pricing.book import Book
from tests.harness.receiver import Receiver
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


async def nothing_to_read() -> None:
    """No gauge shows anything."""
