"""``tollgate correct``: what calls should have cost by today's price book, and the differences booked."""

from __future__ import annotations

import asyncio
import json
import os
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.config import config_option, read_config, reading
from gateway.cli.manual import CONFIG_FILES, CONFIG_VARIABLES, Command, json_option, option
from gateway.cli.output import Column, print_json, progress, table
from gateway.cli.times import LAST, SECTION, moment, since_option, until_option

if TYPE_CHECKING:
    from gateway.settings import Settings
    from gateway.store import Settlement
    from pricing.book import Book

BATCH = 200


@click.command(
    cls=Command,
    examples=(
        ("What calls would have cost by the prices in force now.", "tollgate correct --config tollgate.yaml"),
        ("Book the differences of our own models.", 'tollgate correct --since 2026-11-01 --model "our-*" --write'),
    ),
    exits={3: "The store cannot be read, or could not book all of it: run it again, it books nothing twice."},
    variables=CONFIG_VARIABLES,
    files={**CONFIG_FILES, "pricing.overrides": "Price rows that go before the book."},
)
@since_option
@until_option
@option(
    "--model",
    default="*",
    metavar="PATTERN",
    help="Only models whose name, asked or served, is like this.",
    section=SECTION,
)
@option("--write", is_flag=True, help="Book the differences. Without it they are only shown.", section="What to do")
@config_option
@json_option
def correct(
    config: Path | None, since: datetime | None, until: datetime | None, model: str, write: bool, as_json: bool
) -> None:
    """Hold what calls were charged against the price book and the overrides of the config as they are now.

    For a price that was wrong or missing when the calls were made. A difference is booked as a record of its own (outcome
    "corrected") on the accounts of the call; no record is changed. Can be run while the gateway serves, and again.
    """
    from gateway.loading import load_book

    settings, _ = read_config(config)
    book = load_book(settings.pricing.overrides)
    found = _find(settings, book, moment(since, ""), moment(until, LAST), model)
    booked = asyncio.run(_book(settings, book, found)) if write and found else 0
    if as_json:
        print_json(_document(found, booked))
    else:
        _show(found, booked, write=write)


def _find(settings: Settings, book: Book, since: str, until: str, model: str) -> list[dict[str, Any]]:
    from gateway.correct import correction_of

    with reading(settings) as archive:
        corrections = archive.corrections()
        found = []
        for record in progress(archive.records(since, until), archive.count(since, until), "calls"):
            named = record["model_requested"], record["model_served"]
            if record.get("corrects") or not any(fnmatchcase(name, model) for name in named):
                continue
            correction = correction_of([record, *corrections.get(record["call_id"], ())], book)
            if correction is not None:
                found.append(correction)
        return found


async def _book(settings: Settings, book: Book, corrections: Sequence[dict[str, Any]]) -> int:
    """How many were booked. One that another run has booked meanwhile is none."""
    from gateway.call import Receipt
    from gateway.stores import make_store

    store = make_store(settings, f"correct-{os.getpid()}", durability="full")
    await store.open()
    booked = 0
    try:
        await store.keep_book(book.version, lambda: book.packed)
        starts = range(0, len(corrections), BATCH)
        for start in progress(starts, len(starts), f"batches of {BATCH}"):
            some = [_settlement(each, settings.spend.by) for each in corrections[start : start + BATCH]]
            for answer in await store.settle_all(some):
                if not isinstance(answer, Receipt):
                    raise answer
                booked += not answer.again
    finally:
        await store.close()
    return booked


def _settlement(record: dict[str, Any], spend_by: Sequence[str]) -> Settlement:
    from gateway.accounts import account_of
    from gateway.store import Settlement
    from gateway.store.rollups import spend_of

    accounts = tuple(account_of(each) for each in record["accounts"])
    text = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
    return Settlement(
        record["call_id"],
        record["cost_nanousd"],
        record["outcome"],
        accounts,
        text,
        record["started_at"],
        spend=spend_of(record, spend_by),
    )


def _document(found: Sequence[dict[str, Any]], booked: int) -> dict[str, Any]:
    names = ("call_id", "corrects", "started_at", "team", "model_requested", "corrected_nanousd", "cost_nanousd")
    return {
        "corrections": [{name: each[name] for name in names} for each in found],
        "difference_nanousd": sum(each["cost_nanousd"] for each in found),
        "booked": booked,
    }


def _show(found: Sequence[dict[str, Any]], booked: int, *, write: bool) -> None:
    from pricing.money import format_usd

    if not found:
        click.echo("Every call was charged what it costs by this price book.")
        return
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for each in found:
        line = sums[each["model_served"] or each["model_requested"]]
        line[0] += 1
        line[1] += each["corrected_nanousd"]
        line[2] += each["cost_nanousd"]
    rows = [
        (model, f"{calls:,}", format_usd(charged), _signed(more))
        for model, (calls, charged, more) in sorted(sums.items())
    ]
    foot = ("all", f"{len(found):,}", "", _signed(sum(each["cost_nanousd"] for each in found)))
    columns = ("model", Column("calls", "right"), Column("charged $", "point"), Column("difference $", "point"))
    table(columns, rows, foot)
    click.echo()
    click.echo(f"{booked:,} corrections were booked." if write else "Nothing was booked: --write does it.")


def _signed(nanousd: int) -> str:
    from pricing.money import format_usd

    return ("+" if nanousd >= 0 else "-") + format_usd(abs(nanousd))
