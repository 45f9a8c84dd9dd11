"""What events say of budgets: a sentence that is true for whoever is woken by it."""

from __future__ import annotations

import pytest

from gateway.accounts import Account, Notice
from gateway.observe.occasions import of_notice


@pytest.mark.parametrize(
    ("spent", "says"),
    [
        (8_100_000_000, "has come to 80 % of $10.00: team:a/day:2026-11-21 has spent $8.10"),
        (12_000_000_000, "has come to 100 % of $10.00: team:a/day:2026-11-21 has spent $12.00"),
        (6_000_000_000, "has no room for a call: team:a/day:2026-11-21 has spent $6.00 of $10.00"),
    ],
)
def test_a_threshold_says_what_is_spent_and_a_refusal_what_it_is(spent: int, says: str) -> None:
    """100 percent is told at the first refusal as well, when less than all may be spent."""
    percent = 80 if spent == 8_100_000_000 else 100
    event = of_notice(Notice(Account("team:a", "day:2026-11-21"), "b", percent, 10_000_000_000, spent))
    assert event.text == f"budget b {says}"
    assert event.severity == ("critical" if percent == 100 else "warning")
