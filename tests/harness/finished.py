"""Finished calls as sinks get them."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.call import Record, as_json
from gateway.observe import Batch


def batch(records: Sequence[Record]) -> Batch:
    """These records, and their JSON."""
    return Batch(records, [as_json(record) for record in records])
