"""A webhook of the config: what it must say, and what ``alerts`` is given of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from gateway import settings
from gateway.observe.delivery import Webhook
from gateway.observe.payloads import signing_key


def faults(webhook: settings.Webhook) -> Iterator[tuple[str, str]]:
    """What is wrong with it: key and problem. Address and secret are not repeated."""
    url, secret = webhook.url.reveal(), webhook.secret.reveal()
    if not url and webhook.kind != "pagerduty":
        yield "url", "is missing"
    elif url and not _is_address(url):
        yield "url", "must be http://... or https://..."
    if webhook.kind == "pagerduty" and not secret:
        yield "secret", "is missing: the routing key of the integration"
    elif webhook.kind == "generic":
        try:
            signing_key(secret)
        except ValueError as error:
            yield "secret", str(error)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and " " not in url
    except ValueError:
        return False


def compiled(webhooks: Sequence[settings.Webhook]) -> list[Webhook]:
    """As ``alerts`` takes them."""
    return [
        Webhook(
            url=each.url.reveal(),
            kind=each.kind,
            on=frozenset(each.on),
            secret=each.secret.reveal(),
            repeat_s=each.repeat,
            timeout_s=each.timeout,
        )
        for each in webhooks
    ]
