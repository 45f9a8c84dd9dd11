"""``tollgate audit``: are the books right? Every record worked out again, every account held against its records."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.audit import Verdict, verdict
from gateway.cli.config import config_option, open_archive, read_config
from gateway.errors import Failure
from gateway.store import SPEND_COUNTS, Spend
from gateway.store.archive import LAST, Archive
from pricing.book import Book
from pricing.money import format_usd

if TYPE_CHECKING:
    from gateway.store.redis_archive import RedisArchive

SHOWN = 20
DAY = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])


@click.command()
@config_option
@click.option("--since", type=DAY, metavar="DATE", help="From this moment on, UTC. Default: everything there is.")
@click.option("--until", type=DAY, metavar="DATE", help="Before this moment, UTC.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, every difference included.")
def audit(config: Path | None, since: datetime | None, until: datetime | None, as_json: bool) -> None:
    """Work every recorded call out again and hold the accounts against the records.

    Usage is read again from what the provider said, and priced with the price book of that day, which is kept in the store.
    Exit status 1 when anything differs. Can be run while the gateway serves.
    """
    settings, _ = read_config(config)
    try:
        with open_archive(settings) as archive:
            report = _audit(archive, moment(since, ""), moment(until, LAST), quiet=as_json)
    except Failure as failure:
        raise click.ClickException(f"{settings.store.url}: {failure.message}") from None
    click.echo(json.dumps(report.document(), indent=2) if as_json else report.text())
    sys.exit(1 if report.wrong else 0)


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
        calls = sum(self.states.values())
        lines = [f"{calls:,} calls, ${format_usd(self.cost_nanousd)}"]
        lines.append(f"  {self.states['same']:>10,}  worked out again: the same to the nano-dollar")
        if self.states["held"]:
            lines.append(f"  {self.states['held']:>10,}  lost with their process: charged with their hold")
        if self.states["unknown"]:
            lines.append(f"  {self.states['unknown']:>10,}  cannot be worked out: their price book was not kept")
        if self.different:
            lines.append(f"  {len(self.different):>10,}  DIFFERENT")
        for each in self.different[:SHOWN]:
            lines += [f"\n{each.call_id}", *(f"  {difference}" for difference in each.differences)]
        if len(self.different) > SHOWN:
            lines.append(f"\n... and {len(self.different) - SHOWN:,} more: --json lists them all")
        lines.append("")
        if not self.accounts:
            lines.append("Every account is the sum of its records, and holds what its running calls hold.")
        for name, spent, held in self.accounts:
            lines.append(
                f"DIFFERENT  {name}: spent ${format_usd(spent)} and held ${format_usd(held)} beyond what stands behind it"
            )
        return "\n".join(lines + self._spend_text())

    def _spend_text(self) -> list[str]:
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


def _audit(archive: Archive | RedisArchive, since: str, until: str, *, quiet: bool) -> _Report:
    report, book_of = _Report(), _books(archive)
    with click.progressbar(
        archive.records(since, until),
        length=archive.count(since, until),
        label="calls",
        file=sys.stderr,
        hidden=quiet or not sys.stderr.isatty(),
        update_min_steps=500,
    ) as records:
        for record in records:
            report.add(verdict(record, book_of))
    report.accounts = [(str(each.account), each.spent_nanousd, each.held_nanousd) for each in archive.differences()]
    report.spend = archive.spend_differences()
    return report


def _books(archive: Archive | RedisArchive) -> Callable[[str], Book | None]:
    @lru_cache(maxsize=64)
    def find(version: str) -> Book | None:
        packed = archive.book(version)
        if packed is None:
            return None
        book = Book.unpack(packed)
        return book if book.version == version else None

    return find


def moment(given: datetime | None, otherwise: str) -> str:
    """In the form in which records say when they began."""
    return given.replace(tzinfo=UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z") if given is not None else otherwise
