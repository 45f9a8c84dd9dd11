"""What Slack, PagerDuty and everybody else are sent, held against what they document."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.observe import payloads
from gateway.observe.events import Event
from gateway.observe.payloads import Told
from tests.harness.webhooks import Received

EVENT = Event(
    "budget", "budget/a/team:a/day:2026-11-21/80", "told", "warning", "budget a has come to 80 %", (("percent", "80"),)
)
TOLD = Told(EVENT, "msg_1", 1_790_000_000.25, 5.0, "host-1")
any_text = st.text(max_size=50)
events = st.builds(
    Event,
    kind=st.sampled_from(["budget", "store"]),
    key=st.text(max_size=600),
    state=st.sampled_from(["firing", "resolved", "told"]),
    severity=st.sampled_from(["info", "warning", "critical"]),
    text=st.text(max_size=4000),
    facts=st.lists(st.tuples(any_text, st.text(max_size=500)), max_size=30).map(tuple),
)


def told(event: Event) -> Told:
    return replace(TOLD, event=event)


def slack(event: Event) -> Any:
    return json.loads(payloads.slack(told(event)))


def test_slack_gets_the_sentence_and_the_facts() -> None:
    """The sentence is what a phone shows; a stripe shows the severity, green when it is over."""
    message = slack(EVENT)
    (attachment,) = message["attachments"]
    assert message["text"] == "Warning: budget a has come to 80 %"
    assert {"title": "percent", "value": "80", "short": True} in attachment["fields"]
    assert {"title": "gateway", "value": "host-1", "short": True} in attachment["fields"]
    assert attachment["fallback"] == "percent: 80, severity: warning, gateway: host-1"
    colours = {
        (state, severity): slack(replace(EVENT, state=state, severity=severity))["attachments"][0]["color"]
        for state in ("firing", "resolved")
        for severity in ("info", "warning", "critical")
    }
    assert len({colours["firing", each] for each in ("info", "warning", "critical")}) == 3
    assert {colours["resolved", each] for each in ("info", "warning", "critical")} == {payloads.RESOLVED_COLOUR}


@given(events)
def test_nothing_that_a_caller_invents_speaks_to_slack(event: Event) -> None:
    """No mention, no link: outside of escapes there is no < > &; and nothing is too long for it."""
    message = slack(event)
    texts = [message["text"], message["attachments"][0]["fallback"]]
    texts += [part for each in message["attachments"][0]["fields"] for part in (each["title"], each["value"])]
    for text in texts:
        bare = text.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "")
        assert not set(bare) & set("<>&")
    assert message["mrkdwn"] is False
    assert len(message["attachments"][0]["fields"]) <= payloads.MAX_FACTS + 2


def test_a_message_has_an_end() -> None:
    """However many facts there are."""
    fields = slack(replace(EVENT, facts=tuple((str(number), "x" * 999) for number in range(99))))["attachments"][0][
        "fields"
    ]
    assert len(fields) == payloads.MAX_FACTS + 2
    assert max(len(each["value"]) for each in fields) == payloads.MAX_FACT_CHARS


def test_a_mention_in_a_name_is_text() -> None:
    """Whoever can name a model could otherwise wake the channel."""
    message = slack(replace(EVENT, text="<!channel> & <http://x|y>"))
    assert message["text"] == "Warning: &lt;!channel&gt; &amp; &lt;http://x|y&gt;"


def pagerduty(event: Event) -> Any:
    return json.loads(payloads.pagerduty(told(event), "the-routing-key"))


def test_pagerduty_gets_an_event_of_its_second_api() -> None:
    """Every required field, and the facts."""
    assert pagerduty(EVENT) == {
        "routing_key": "the-routing-key",
        "event_action": "trigger",
        "dedup_key": EVENT.key,
        "client": "Tollgate",
        "payload": {
            "summary": "budget a has come to 80 %",
            "source": "host-1",
            "severity": "warning",
            "timestamp": "2026-09-21T14:13:20.250Z",
            "component": "tollgate",
            "class": "budget",
            "custom_details": {"percent": "80"},
        },
    }


@given(events)
def test_an_end_closes_the_incident_of_its_beginning(event: Event) -> None:
    """The same ``dedup_key``, within PagerDuty's bounds."""
    begun, over = pagerduty(replace(event, state="firing")), pagerduty(replace(event, state="resolved"))
    assert (begun["event_action"], over["event_action"]) == ("trigger", "resolve")
    assert begun["dedup_key"] == over["dedup_key"]
    assert len(begun["dedup_key"]) <= 255
    assert len(begun["payload"]["summary"]) <= 1024


@given(st.text(min_size=300, max_size=400), st.text(min_size=1, max_size=9), st.text(min_size=1, max_size=9))
def test_long_keys_stay_apart(start: str, one: str, other: str) -> None:
    """Two budgets of long names are two incidents."""
    keys = {pagerduty(replace(EVENT, key=start + end))["dedup_key"] for end in (one, other)}
    assert len(keys) == len({one, other})


def test_anybody_else_gets_json() -> None:
    """Type, time and data, as the standard recommends."""
    assert json.loads(payloads.generic(TOLD)) == {
        "type": "budget.told",
        "timestamp": "2026-09-21T14:13:20.250Z",
        "data": {
            "key": EVENT.key,
            "kind": "budget",
            "state": "told",
            "severity": "warning",
            "text": "budget a has come to 80 %",
            "facts": {"percent": "80"},
            "gateway": "host-1",
        },
    }


@given(events)
def test_half_characters_do_not_stop_an_event(event: Event) -> None:
    """Names may hold what JSON cannot."""
    event = replace(event, text="\ud800", key="\udfff" + event.key, facts=(("\ud800", "\ud800"),))
    for body in (payloads.slack(told(event)), payloads.pagerduty(told(event), "k"), payloads.generic(told(event))):
        json.loads(body)


@pytest.mark.parametrize(
    ("secret", "key"),
    [("plain words", b"plain words"), ("whsec_" + base64.b64encode(b"k" * 32).decode(), b"k" * 32)],
)
def test_a_signature_is_what_the_standard_says(secret: str, key: bytes) -> None:
    """Verified by a second implementation; another body, id or key does not pass."""
    fields = payloads.signed(TOLD, b'{"a":1}', secret, 1_790_000_001)
    sent = Received("/", fields, b'{"a":1}')
    assert fields["webhook-id"] == "msg_1"
    assert fields["webhook-timestamp"] == "1790000001"
    assert sent.is_signed_with(key)
    assert not sent.is_signed_with(b"another")
    assert not replace(sent, body=b'{"a":2}').is_signed_with(key)
    assert not replace(sent, fields=fields | {"webhook-id": "msg_2"}).is_signed_with(key)


def test_the_signature_of_a_known_case() -> None:
    """The example of the reference libraries' tests: the same id, time, body and secret give the same signature."""
    known = replace(TOLD, message_id="msg_p5jXN8AQM9LWM0D4loKWxJek")
    fields = payloads.signed(known, b'{"test": 2432232314}', "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 1_614_265_330)
    assert fields["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_without_a_secret_nothing_is_signed() -> None:
    """The id is there all the same."""
    assert set(payloads.signed(TOLD, b"", "", 1)) == {"webhook-id", "webhook-timestamp"}


@pytest.mark.parametrize("secret", ["whsec_", "whsec_***", "whsec_abc"])
def test_a_secret_that_is_no_base64_is_refused(secret: str) -> None:
    """In words that do not repeat it."""
    with pytest.raises(ValueError, match="behind whsec_ must be base64") as caught:
        payloads.signing_key(secret)
    assert caught.value.__cause__ is None or "***" not in str(caught.value.__cause__)
