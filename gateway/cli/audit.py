"""``tollgate audit``: are the books right? Every record worked out again, every account held against its records."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.config import config_option, read_config, reading
from gateway.cli.manual import CONFIG_FILES, CONFIG_VARIABLES, Command, json_option
from gateway.cli.output import DONE, NO, clean, print_json, progress, styled
from gateway.cli.times import LAST, moment, since_option, until_option

if TYPE_CHECKING:
    from gateway.audit import Verdict
    from gateway.store import Spend
    from gateway.store.archive import Archive
    from gateway.store.redis_archive import RedisArchive
    from pricing.book import Book

SHOWN = 20


@click.command(
    cls=Command,
    examples=(
        ("Everything there is.", "tollgate audit --config tollgate.yaml"),
        ("One month; every difference, for a script.", "tollgate audit --since 2026-11-01 --until 2026-12-01 --json"),
    ),
    exits={1: "Something differs: each difference is printed.", 3: "The store cannot be read."},
    variables=CONFIG_VARIABLES,
    files=CONFIG_FILES,
)
@since_option
@until_option
@config_option
@json_option
def audit(config: Path | None, since: datetime | None, until: datetime | None, as_json: bool) -> None:
    """Work every recorded call out again and hold the accounts against the records.

    Usage is read again from what the provider said, and priced with the price book of that day, which is kept in the store.
    Every account is held against the sum of its records, the sums of spend against the records of each hour. Can be run while
    the gateway serves.
    """
    settings, _ = read_config(config)
    with reading(settings) as archive:
        report = _audit(archive, moment(since, ""), moment(until, LAST))
    if as_json:
        print_json(report.document())
    else:
        click.echo(report.text())
    sys.exit(NO if report.wrong else DONE)


class _Report:
    """What was found."""

    def __init__(self) -> None:
        self.states: Counter[str] = Counter()
        self.different: list[Verdict] = []
        self.cost_nanousd = 0
        self.accounts: list[tuple[str, int, int]] = []
        """(account, spent beyond its records, held beyond its holds)."""
        self.spend: list[Spend] = []
        """Sums of spend beyond the records of their hour."""

    @property
    def wrong(self) -> bool:
        """Whether anything differs."""
        return bool(self.different or self.accounts or self.spend)

    def add(self, found: Verdict) -> None:
        """One record more."""
        self.states[found.state] += 1
        self.cost_nanousd += found.recorded_nanousd
        if found.state == "different":
            self.different.append(found)

    def document(self) -> dict[str, object]:
        """For a script."""
        from gateway.store import SPEND_COUNTS

        return {
            "calls": sum(self.states.values()),
            "same": self.states["same"],
            "held": self.states["held"],
            "unknown": self.states["unknown"],
            "cost_nanousd": self.cost_nanousd,
            "different": [
                {
                    "call_id": each.call_id,
                    "recorded_nanousd": each.recorded_nanousd,
                    "recomputed_nanousd": each.recomputed_nanousd,
                    "differences": each.differences,
                }
                for each in self.different
            ],
            "accounts": [
                {"account": name, "spent_beyond_records_nanousd": spent, "held_beyond_holds_nanousd": held}
                for name, spent, held in self.accounts
            ],
            "spend": [
                {
                    "hour": each.hour,
                    "dims": json.loads(each.dims),
                    "beyond_records": dict(zip(SPEND_COUNTS, each.counts, strict=True)),
                }
                for each in self.spend
            ],
        }

    def text(self) -> str:
        """For a person."""
        from pricing.money import format_usd

        calls = sum(self.states.values())
        lines = [f"{calls:,} calls, ${format_usd(self.cost_nanousd)}"]
        lines.append(f"  {self.states['same']:>10,}  worked out again: the same to the nano-dollar")
        if self.states["held"]:
            lines.append(f"  {self.states['held']:>10,}  lost with their process: charged with their hold")
        if self.states["unknown"]:
            lines.append(f"  {self.states['unknown']:>10,}  cannot be worked out: their price book was not kept")
        if self.different:
            lines.append(styled(f"  {len(self.different):>10,}  DIFFERENT", "red"))
        for each in self.different[:SHOWN]:
            lines += [f"\n{clean(each.call_id)}", *(f"  {clean(difference)}" for difference in each.differences)]
        if len(self.different) > SHOWN:
            lines.append(f"\n... and {len(self.different) - SHOWN:,} more: --json lists them all")
        lines.append("")
        if not self.accounts:
            lines.append("Every account is the sum of its records, and holds what its running calls hold.")
        for name, spent, held in self.accounts:
            lines.append(
                f"DIFFERENT  {clean(name)}: spent ${format_usd(spent)} and held ${format_usd(held)} beyond what stands behind it"
            )
        return "\n".join(lines + self._spend_text())

    def _spend_text(self) -> list[str]:
        from gateway.store import SPEND_COUNTS

        if not self.spend:
            return ["The sums of spend are those of the records, hour by hour."]
        lines = []
        for each in self.spend[:SHOWN]:
            counts = zip(SPEND_COUNTS, each.counts, strict=True)
            beyond = ", ".join(f"{name} {count:+}" for name, count in counts if count)
            lines.append(f"DIFFERENT  spend of {each.hour} {each.dims}: {beyond} beyond the records")
        if len(self.spend) > SHOWN:
            lines.append(f"... and {len(self.spend) - SHOWN:,} more: --json lists them all")
        return lines


def _audit(archive: Archive | RedisArchive, since: str, until: str) -> _Report:
    from gateway.audit import verdict

    report, book_of = _Report(), _books(archive)
    for record in progress(archive.records(since, until), archive.count(since, until), "calls"):
        report.add(verdict(record, book_of))
    report.accounts = [(str(each.account), each.spent_nanousd, each.held_nanousd) for each in archive.differences()]
    report.spend = archive.spend_differences()
    return report


def _books(archive: Archive | RedisArchive) -> Callable[[str], Book | None]:
    @lru_cache(maxsize=64)
    def find(version: str) -> Book | None:
        from pricing.book import Book

        packed = archive.book(version)
        if packed is None:
            return None
        book = Book.unpack(packed)
        return book if book.version == version else None

    return find
