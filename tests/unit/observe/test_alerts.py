"""Webhooks over real HTTP: told once, in order, tried again while that can help, and never at the cost of anything else."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.observe import alerts as alerts_module
from gateway.observe import delivery
from gateway.observe.alerts import Alerts
from gateway.observe.delivery import Webhook, retry_after_s, retry_delay
from gateway.observe.events import KINDS, Event
from tests.harness.webhooks import Receiver

Count = Counter[tuple[str, str]]


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is seconds in service is milliseconds here; and the log can be read, whoever set it up before."""
    monkeypatch.setattr(logging.getLogger("gateway"), "propagate", True)
    monkeypatch.setattr(delivery, "FIRST_RETRY_S", 0.02)
    monkeypatch.setattr(alerts_module, "STOP_S", 0.3)


def webhook(receiver: Receiver, kind: str = "generic", **changed: Any) -> Webhook:
    plain = Webhook(receiver.url, kind, frozenset(KINDS), "hush", repeat_s=3600, timeout_s=5)
    return replace(plain, **changed)


def event(number: int = 1, state: str = "firing", kind: str = "store") -> Event:
    return Event(kind, f"{kind}/{number}", state, "critical", f"event {number}", (("number", str(number)),))


@asynccontextmanager
async def serving(*webhooks: Webhook) -> AsyncIterator[tuple[Alerts, Count]]:
    counted: Count = Counter()
    alerts = Alerts(webhooks, lambda kind, outcome: counted.update([(kind, outcome)]))
    alerts.start()
    try:
        yield alerts, counted
    finally:
        await alerts.stop()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("webhook-")], (
        "nothing is left running"
    )


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


async def test_an_event_reaches_everybody_who_wants_it() -> None:
    """Each in its own words; who asked for other kinds hears nothing."""
    async with Receiver() as slack, Receiver() as pagerduty, Receiver() as generic, Receiver() as other:
        hooks = (
            webhook(slack, "slack"), webhook(pagerduty, "pagerduty"), webhook(generic),
            webhook(other, on=frozenset({"budget"})),
        )  # fmt: skip
        async with serving(*hooks) as (alerts, counted):
            alerts.tell(event())
            (to_slack,) = await slack.until(1)
            (to_pagerduty,) = await pagerduty.until(1)
            (to_anybody,) = await generic.until(1)
            await until(lambda: counted.total() == 3)
    assert to_slack.json["text"] == "Firing: event 1"
    assert to_pagerduty.json["dedup_key"] == "store/1"
    assert to_pagerduty.json["routing_key"] == "hush"
    assert to_anybody.json["data"]["facts"] == {"number": "1"}
    assert to_anybody.is_signed_with(b"hush")
    assert {each.fields["content-type"] for each in (to_slack, to_pagerduty, to_anybody)} == {"application/json"}
    assert not other.received
    assert counted == {(kind, "delivered"): 1 for kind in ("slack", "pagerduty", "generic")}


@pytest.mark.parametrize("answer", [500, 503, 429, 408])
async def test_what_may_pass_is_tried_again_as_the_same_message(answer: int) -> None:
    """The id stays, so that a receiver can tell a retry; the signature is that of the attempt."""
    async with Receiver(answer, answer) as receiver, serving(webhook(receiver)) as (alerts, counted):
        alerts.tell(event())
        received = await receiver.until(3)
        await until(lambda: counted["generic", "delivered"])
    assert len({each.fields["webhook-id"] for each in received}) == 1
    assert len({each.body for each in received}) == 1
    assert all(each.is_signed_with(b"hush") for each in received)
    assert len(receiver.received) == 3
    assert counted.total() == 1


@pytest.mark.parametrize("answer", [301, 400, 401, 404, 410])
async def test_what_will_not_pass_is_not_tried_again(answer: int, caplog: pytest.LogCaptureFixture) -> None:
    """Nor is anything sent where an answer points to. It counts as failed, and the next event goes out."""
    async with (
        Receiver() as elsewhere,
        Receiver((answer, {"Location": elsewhere.url})) as receiver,
        serving(webhook(receiver)) as (alerts, counted),
    ):
        alerts.tell(event(1))
        alerts.tell(event(2))
        received = await receiver.until(2)
        await until(lambda: counted.total() == 2)
    assert [each.json["data"]["key"] for each in received] == ["store/1", "store/2"]
    assert counted == {("generic", "failed"): 1, ("generic", "delivered"): 1}
    assert not elsewhere.received
    assert f"webhook 1 (generic) was not told of store/1: it answered {answer}" in caplog.messages


async def test_a_receiver_that_is_away_is_found_when_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    """No line names the address: it is the password."""
    receiver = Receiver()
    async with receiver:
        hook = webhook(receiver)
    async with serving(hook) as (alerts, counted):
        with caplog.at_level(logging.DEBUG):
            alerts.tell(event())
            await until(lambda: caplog.messages)
            async with receiver:
                await receiver.until(1)
                await until(lambda: counted["generic", "delivered"])
    assert "hush" not in caplog.text
    assert "127.0.0.1" not in caplog.text
    assert len(caplog.messages) == 1


async def test_retry_after_is_heeded() -> None:
    """The receiver knows best, above our own pace."""
    async with Receiver((503, {"Retry-After": "1"})) as receiver, serving(webhook(receiver)) as (alerts, _):
        began = time.monotonic()
        alerts.tell(event())
        first, second = await receiver.until(2)
        assert time.monotonic() - began >= 1
    times = [int(each.fields["webhook-timestamp"]) for each in (first, second)]
    assert times[1] > times[0], "the time that is signed is that of the attempt"


async def test_a_receiver_that_does_not_answer_is_left_after_its_time() -> None:
    """And asked again, like one that is away."""
    async with Receiver(None) as receiver, serving(webhook(receiver, timeout_s=0.05)) as (alerts, counted):
        alerts.tell(event())
        await receiver.until(2)
        await until(lambda: counted["generic", "delivered"])


async def test_an_event_is_given_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted as failed, and not heard: the next time it is news, and its end is not told alone."""
    monkeypatch.setattr(delivery, "GIVE_UP_S", 0.1)
    async with Receiver(*[500] * 100) as receiver, serving(webhook(receiver)) as (alerts, counted):
        alerts.tell(event(1))
        await until(lambda: counted["generic", "failed"])
        receiver.answers.clear()
        alerts.tell(event(1, "resolved"))
        alerts.tell(event(1))
        await until(lambda: counted["generic", "delivered"])
        alerts.tell(event(1, "resolved"))
        await until(lambda: counted["generic", "delivered"] == 2)
    assert [each.json["data"]["state"] for each in receiver.received[-2:]] == ["firing", "resolved"]


async def test_the_end_of_what_could_not_be_told_is_not_told() -> None:
    """Also where it waited behind its beginning already; what follows is told."""
    async with Receiver(500, 400) as receiver, serving(webhook(receiver)) as (alerts, counted):
        for state in ("firing", "resolved", "firing", "resolved"):
            alerts.tell(event(1, state))
        await until(lambda: counted.total() == 3)
    assert [each.json["data"]["state"] for each in receiver.received[2:]] == ["firing", "resolved"]
    assert counted == {("generic", "failed"): 1, ("generic", "delivered"): 2}


async def test_the_end_of_what_grew_worse_unheard_is_told() -> None:
    """Its beginning was heard: an incident must not stay open because the word of its growing worse was refused."""
    async with Receiver(200, 400) as receiver, serving(webhook(receiver)) as (alerts, counted):
        alerts.tell(replace(event(1), severity="warning"))
        await until(lambda: counted.total() == 1)
        alerts.tell(event(1))
        alerts.tell(event(1, "resolved"))
        await until(lambda: counted.total() == 3)
    heard = [(each.json["data"]["state"], each.json["data"]["severity"]) for each in receiver.received]
    assert heard == [("firing", "warning"), ("firing", "critical"), ("resolved", "critical")]


async def test_an_event_that_a_receiver_cannot_take_does_not_hold_up_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What happens meanwhile is told at once; an end waits for its beginning all the same, and the log says once that it fails."""
    monkeypatch.setattr(delivery, "FIRST_RETRY_S", 0.5)
    async with Receiver(500, 500) as receiver, serving(webhook(receiver)) as (alerts, counted):
        alerts.tell(event(1))
        alerts.tell(event(2))
        await receiver.until(2)
        alerts.tell(event(1, "resolved"))
        alerts.tell(event(3))
        await until(lambda: counted.total() == 4)
    order = [(each.json["data"]["key"], each.json["data"]["state"]) for each in receiver.received]
    assert order[:3] == [("store/1", "firing"), ("store/2", "firing"), ("store/3", "firing")]
    assert sorted(order[3:]) == [("store/1", "firing"), ("store/1", "resolved"), ("store/2", "firing")]
    assert order.index(("store/1", "resolved")) > order.index(("store/1", "firing"), 3)
    assert sum("cannot be told" in each for each in caplog.messages) == 1


async def test_a_receiver_that_is_well_again_is_told_at_once_what_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that took an event takes others: nothing waits for its own next time. What failed most often comes last."""
    monkeypatch.setattr(delivery, "FIRST_RETRY_S", 60)
    async with Receiver(500, 500) as receiver, serving(webhook(receiver)) as (alerts, counted):
        alerts.tell(event(1))
        alerts.tell(event(2))
        await receiver.until(2)
        alerts.tell(event(3))
        await until(lambda: counted.total() == 3)
    assert [each.json["data"]["key"] for each in receiver.received[2:]] == ["store/3", "store/1", "store/2"]


async def test_a_receiver_that_wants_to_be_left_alone_is_left_alone_by_all() -> None:
    """Retry-After speaks of the receiver and not of one event."""
    async with Receiver((429, {"Retry-After": "1"})) as receiver, serving(webhook(receiver)) as (alerts, counted):
        began = time.monotonic()
        alerts.tell(event(1))
        await receiver.until(1)
        alerts.tell(event(2))
        await receiver.until(2)
        assert time.monotonic() - began >= 1
        await until(lambda: counted.total() == 2)


async def test_the_same_event_is_told_once() -> None:
    """Until it is over; each webhook by its own time."""
    async with Receiver() as receiver, serving(webhook(receiver)) as (alerts, counted):
        for state in ("firing", "firing", "resolved", "resolved", "firing"):
            alerts.tell(event(1, state))
        await until(lambda: counted.total() == 3)
    assert [each.json["type"] for each in receiver.received] == ["store.firing", "store.resolved", "store.firing"]
    assert len({each.fields["webhook-id"] for each in receiver.received}) == 3


async def test_a_receiver_that_hangs_costs_one_connection_and_a_bounded_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beyond the bound is dropped and counted, its neighbour is told everything, and taking an event stays quick."""
    monkeypatch.setattr(delivery, "MAX_WAITING", 50)
    async with Receiver(*[None] * 1000) as hanging, Receiver() as sound:
        async with serving(webhook(hanging), webhook(sound, "slack")) as (alerts, counted):
            for number in range(40):
                alerts.tell(event(number))
            await until(lambda: counted["slack", "delivered"] == 40)
            for number in range(40, 80):
                alerts.tell(event(number))
            await until(lambda: counted["slack", "delivered"] == 80)
            assert counted["generic", "dropped"] == 30
            assert hanging.most_at_once == 1
            began = time.monotonic()
        assert time.monotonic() - began < 5, "a stop waits for a few moments only"
    assert counted["generic", "dropped"] == 80, "what waited at the end is counted too"


async def test_deliveries_to_one_webhook_do_not_overlap() -> None:
    """In the order of the events."""
    async with Receiver() as receiver, serving(webhook(receiver)) as (alerts, counted):
        for number in range(30):
            alerts.tell(event(number))
        await until(lambda: counted.total() == 30)
    assert receiver.most_at_once == 1
    assert [each.json["data"]["key"] for each in receiver.received] == [f"store/{number}" for number in range(30)]


async def test_what_waits_at_the_end_is_delivered() -> None:
    """One attempt each, without waiting for retries."""
    async with Receiver(500) as receiver, serving(webhook(receiver)) as (alerts, counted):
        for number in range(5):
            alerts.tell(event(number))
    assert [each.json["data"]["key"] for each in receiver.received] == [f"store/{number}" for number in range(5)]
    assert counted == {("generic", "failed"): 1, ("generic", "delivered"): 4}


async def test_a_retry_that_is_far_away_does_not_hold_up_the_end() -> None:
    """A stop is no time to wait for tomorrow."""
    async with Receiver((503, {"Retry-After": "1800"})) as receiver:
        async with serving(webhook(receiver)) as (alerts, counted):
            alerts.tell(event())
            await receiver.until(1)
            await asyncio.sleep(0)
            began = time.monotonic()
        assert time.monotonic() - began < 30
    assert counted == {("generic", "failed"): 1}


async def test_a_reload_keeps_what_was_told_and_what_waits() -> None:
    """The same receiver with other settings goes on; a new one starts; one that is gone finishes what it has."""
    async with (
        Receiver() as kept,
        Receiver() as gone,
        Receiver() as new,
        serving(webhook(kept), webhook(gone)) as (alerts, counted),
    ):
        alerts.tell(event(1))
        await kept.until(1)
        await gone.until(1)
        alerts.tell(event(2))
        alerts.apply([webhook(new), webhook(kept, secret="other", timeout_s=3)])
        for number in (1, 2, 3):
            alerts.tell(event(number))
        await new.until(3)
        await kept.until(3)
        await until(lambda: counted.total() == 8)
    assert [each.json["data"]["key"] for each in kept.received] == ["store/1", "store/2", "store/3"]
    assert kept.received[-1].is_signed_with(b"other")
    assert [each.json["data"]["key"] for each in gone.received] == ["store/1", "store/2"]


async def test_a_new_webhook_hears_what_lasts() -> None:
    """Whoever corrects an address while the store is down is to hear of it; who was told is not told twice."""
    async with (
        Receiver() as kept,
        Receiver(404) as wrong,
        Receiver() as right,
        serving(webhook(kept), webhook(wrong)) as (alerts, counted),
    ):
        for each in (event(1), event(2), event(2, "resolved"), event(3, "told"), event(4, kind="budget")):
            alerts.tell(each)
        await until(lambda: counted.total() == 10)
        alerts.apply([webhook(kept), webhook(right, on=frozenset({"store"}))])
        await right.until(1)
        alerts.tell(event(1, "resolved"))
        await kept.until(6)
        await right.until(2)
    assert [each.json["data"]["key"] for each in right.received] == ["store/1", "store/1"]
    assert len(kept.received) == 6


async def test_what_lasts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go first."""
    monkeypatch.setattr(alerts_module, "MAX_LASTING", 2)
    async with Receiver() as receiver, serving() as (alerts, counted):
        for number in (1, 2, 3):
            alerts.tell(event(number))
        alerts.apply([webhook(receiver)])
        await until(lambda: counted.total() == 2)
    assert [each.json["data"]["key"] for each in receiver.received] == ["store/2", "store/3"]


async def test_a_webhook_that_fails_has_a_name() -> None:
    """Until it takes something again."""
    async with (
        Receiver(404) as receiver,
        Receiver() as sound,
        serving(webhook(sound, "slack"), webhook(receiver)) as (
            alerts,
            counted,
        ),
    ):
        assert alerts.failing() == []
        alerts.tell(event(1))
        await until(lambda: counted.total() == 2)
        assert alerts.failing() == ["webhook 2 (generic)"]
        alerts.tell(event(2))
        await until(lambda: counted.total() == 4)
        assert alerts.failing() == []


async def test_two_services_of_one_address_stay_apart_over_a_reload() -> None:
    """PagerDuty's address is the same for everybody; the routing key is what differs."""
    async with Receiver() as receiver:
        one, other = (webhook(receiver, "pagerduty", secret=secret) for secret in ("one", "other"))
        async with serving(one) as (alerts, counted):
            alerts.tell(event(1))
            await receiver.until(1)
            alerts.apply([other, one])
            alerts.tell(event(1))
            await receiver.until(2)
            await until(lambda: counted.total() == 2)
            alerts.apply([webhook(receiver, "pagerduty", secret="third")])
            alerts.tell(event(1))
            await receiver.until(3)
            await until(lambda: counted.total() == 3)
    assert [each.json["routing_key"] for each in receiver.received] == ["one", "other", "third"]


async def test_a_shorter_repeat_holds_for_what_was_told_before() -> None:
    """Whoever lowers it wants to hear more often from now on."""
    async with Receiver() as receiver, serving(webhook(receiver)) as (alerts, counted):
        alerts.tell(event())
        await until(lambda: counted.total() == 1)
        alerts.apply([webhook(receiver, repeat_s=0.0)])
        alerts.tell(event())
        await until(lambda: counted.total() == 2)


async def test_what_is_no_event_harms_nobody() -> None:
    """Telling raises nothing; the next event goes out."""
    async with Receiver() as receiver, serving(webhook(receiver), webhook(receiver, "slack")) as (alerts, counted):
        alerts.tell(replace(event(), key=["no", "text"]))  # type: ignore[arg-type]
        alerts.tell(event(2))
        await until(lambda: counted.total() == 2)


async def test_an_address_that_is_none_fails_in_silence_about_it(caplog: pytest.LogCaptureFixture) -> None:
    """Such as the config check lets no one write; what a client library says of it is not repeated."""
    async with Receiver() as receiver, serving(webhook(receiver, url="http://[hush/")) as (alerts, counted):
        alerts.tell(event())
        await until(lambda: counted["generic", "failed"])
    assert "hush" not in caplog.text


async def test_a_webhook_does_not_show_its_secrets() -> None:
    """In a repr, which is what a traceback would show."""
    async with Receiver() as receiver:
        shown = repr(webhook(receiver, secret="sesame"))
    assert "hush" not in shown
    assert "sesame" not in shown


async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the only way out is one."""
    async with Receiver() as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        hook = webhook(proxy, url="http://hooks.example.invalid/hush")
        async with serving(hook) as (alerts, _):
            alerts.tell(event())
            (received,) = await proxy.until(1)
    assert received.fields["host"] == "hooks.example.invalid"


def test_nothing_is_raised_without_a_loop(tmp_path: Path) -> None:
    """Events may come before the start."""
    alerts = Alerts([Webhook("http://127.0.0.1:1/", "slack", frozenset(KINDS), "", 60, 1)], lambda kind, outcome: None)
    alerts.tell(event())


@given(st.integers(0, 1000), st.floats(0, 1))
def test_retries_wait_ever_longer_up_to_a_bound(attempt: int, chance: float) -> None:
    """Within the second half of a time that doubles: never at once, never together."""
    longest = min(delivery.FIRST_RETRY_S * 2 ** min(attempt, 60), delivery.LONGEST_RETRY_S)
    assert longest / 2 <= retry_delay(attempt, chance) <= longest


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [("", 0), ("17", 17), ("0", 0), ("-3", 0), ("soon", 0), ("1.5", 0), ("²", 0), (formatdate(1000.0, usegmt=True), 100),
     (formatdate(800.0, usegmt=True), 0), ("Fri, 31 Dec 9999 99:99:99 GMT", 0), ("9" * 5000, 999_999_999)],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(asked: str, seconds: float) -> None:
    """RFC 9110 10.2.3; what is neither says nothing."""
    assert retry_after_s(asked, 900.0) == seconds
