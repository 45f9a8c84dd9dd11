"""The Snapshot: what a call needs of the config, compiled. A reload builds a new one and swaps one reference.

A call keeps the snapshot that it started with, so no call sees half a config.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.admission.budgets import Ledger
from gateway.admission.keys import Keys
from gateway.admission.limits import Limits
from gateway.call import Caller
from gateway.dialects.stream_usage import Wishes
from gateway.metering.tokens import Counter
from gateway.value import value
from gateway.wire.forwarded import Proxies
from gateway.wire.routes import Routes
from gateway.wire.upstreams import Pool
from pricing.book import Book
from pricing.price import Tariff


@value
class Snapshot:
    """See the module's docstring. ``drain_s`` is 0 when a client's leaving cancels the call upstream."""

    version: str
    routes: Routes
    pools: Mapping[str, Pool]
    ledger: Ledger
    limits: Limits | None
    """None where there are none."""
    keys: Keys | None
    """None where callers bring the provider's own credentials."""
    proxies: Proxies
    book: Book
    counter: Counter
    response_headers: bool
    refuse_unpriced: bool
    held_wait_s: float
    compare_every: int
    stream_usage: Wishes
    models: Mapping[str, Mapping[str, str]]
    """By upstream: its own names for models of the book."""
    traceparent: Callable[[Caller, str], bytes] | None
    """Writes the field that is sent upstream, for a caller and a call's id; None where the caller's own is passed on."""
    drain_s: float
    drain_bytes: int

    def tariff(self, provider: str, model: str, at: float) -> Tariff:
        """The rates for a model; where the book has none, the dearest of the provider's family, marked as unpriced."""
        return self.book.tariff(provider, model, int(at)) or self.book.dearest(provider, int(at))
