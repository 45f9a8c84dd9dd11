"""``tollgate calls``: the latest calls of the store, new ones as they are booked, or one of them in full."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli import complete
from gateway.cli.config import config_option, read_config, reading
from gateway.cli.manual import CONFIG_FILES, CONFIG_VARIABLES, Command, Word, option
from gateway.cli.output import NO, Column, fail, print_json, print_json_line, room, row, styled, table
from gateway.cli.times import LAST, SECTION, moment, since_option, until_option

if TYPE_CHECKING:
    from gateway.settings import Settings
    from gateway.store.archive import Archive
    from gateway.store.redis_archive import RedisArchive

OUTCOMES = ("completed", "client_disconnected", "upstream_error", "refused", "cut", "lost", "corrected")
PAINT = {"refused": "yellow", "cut": "yellow", "client_disconnected": "yellow", "upstream_error": "red", "lost": "red"}
SHORT_ID, WIDE_ROOM = 12, 150
"""A narrow terminal shows the end of a call id, which tells calls apart; it is enough to ask for one."""
LEAST_ID, SEARCHED = 6, 10_000
POLL_S = 0.5
READ = (
    "input",
    "cached_input",
    "cached_audio",
    "cached_image",
    "cache_write",
    "cache_write_1h",
    "audio_in",
    "image_in",
)
WRITTEN = ("output", "reasoning", "audio_out", "image_out")
STREAMED = (("left", 8), ("left", 12), ("left", 20), ("right", 6), ("right", 7), ("right", 6), ("right", 12), ("right", 7), ("left", 15), ("left", 40))  # fmt: skip
HEAD = ("time", "team", "model", "status", "in", "out", "cost $", "ms", "outcome", "call")


@click.command(
    cls=Command,
    examples=(
        ("The newest twenty.", "tollgate calls"),
        ("What a team was refused today.", "tollgate calls --team search --outcome refused --since 2026-11-21"),
        ("New ones, as they are booked.", "tollgate calls --follow"),
        ("One in full: usage, price, timing, why it was refused.", "tollgate calls 9e5a04b5bccb"),
        ("Records for a script, one a line.", "tollgate calls --limit 1000 --json | jq .cost_nanousd"),
    ),
    exits={1: "There is no such call.", 3: "The store cannot be read.", 130: "--follow: ended by Ctrl-C."},
    variables=CONFIG_VARIABLES,
    files=CONFIG_FILES,
)
@click.argument("call_id", required=False, metavar="[CALL_ID]", shell_complete=complete.calls)
@option("--team", metavar="NAME", help="Only calls of this team.", section=SECTION)
@option("--user", metavar="NAME", help="Of this user.", section=SECTION)
@option("--agent", metavar="NAME", help="Of this agent.", section=SECTION)
@option("--key", "key_name", metavar="NAME", help="With this gateway key.", section=SECTION)
@option("--upstream", metavar="NAME", help="That went to this upstream.", section=SECTION)
@option("--model", metavar="PATTERN", help="Whose model, asked or served, is like this.", section=SECTION)
@option("--outcome", type=Word(OUTCOMES), help="That ended so.", section=SECTION)
@option("--status", type=click.IntRange(0, 599), metavar="CODE", help="That were answered with this.", section=SECTION)
@option("--correlation-id", metavar="ID", help="Of this user request.", section=SECTION)
@since_option
@until_option
@option("--limit", type=click.IntRange(1), default=20, show_default=True, help="So many, the newest.", section="Output")
@option("--follow", "-f", is_flag=True, help="Then go on with new ones until Ctrl-C.", section="Output")
@option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print JSON, for a script: a record a line; one call as a document.",
    section="Output",
)
@config_option
def calls(
    call_id: str | None, config: Path | None, as_json: bool, follow: bool, limit: int, since: datetime | None,
    until: datetime | None, **wanted: Any,
) -> None:  # fmt: skip
    """Show the latest calls, newest last with --follow and first without; or CALL_ID in full.

    From the store, whether the gateway runs or not. CALL_ID may be the end of an id (six letters or more).
    """
    settings, _ = read_config(config)
    if call_id is not None:
        _one(settings, call_id, as_json=as_json)
        return
    matches = _filter(wanted)
    with reading(settings) as archive:
        mark = archive.settled(None)[1] if follow else None
        found = _found(archive, matches, moment(since, ""), moment(until, LAST), wanted["correlation_id"] or "")
        shown = list(islice(found, limit))
        if follow:
            _follow(archive, mark, shown, matches, as_json=as_json)
        elif as_json:
            for record in shown:
                print_json_line(record)
        else:
            _table(shown)


def _filter(wanted: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], bool]:
    same = {name: value for name, value in wanted.items() if name != "model" and value is not None}
    pattern = wanted["model"]

    def matches(record: Mapping[str, Any]) -> bool:
        if any(record.get(name) != value for name, value in same.items()):
            return False
        names = record["model_requested"], record["model_served"]
        return pattern is None or any(fnmatchcase(name, pattern) for name in names)

    return matches


def _found(
    archive: Archive | RedisArchive,
    matches: Callable[[Mapping[str, Any]], bool],
    since: str,
    until: str,
    correlation_id: str,
) -> Iterator[dict[str, Any]]:
    """Newest first."""
    for record in archive.newest(correlation_id):
        if record["started_at"] < since:
            return
        if record["started_at"] < until and matches(record):
            yield record


# -- the list -------------------------------------------------------------------------------------------------------------


def _table(records: list[dict[str, Any]]) -> None:
    if not records:
        click.echo(
            "There are no such calls. tollgate demo makes some; tollgate calls --help tells how to look for others."
        )
        return
    cells = room()
    columns = [
        Column("time", whole=True),
        Column("team"),
        Column("model"),
        Column("status", "right", spare=2),
        Column("in", "right", spare=1),
        Column("out", "right", spare=1),
        Column("cost $", "point"),
        Column("ms", "right", spare=3),
        Column("outcome", styles=PAINT),
        Column("call", whole=True),
    ]
    short = cells is not None and cells < WIDE_ROOM
    table(columns, [_cells(record, short=short) for record in records])


def _cells(record: Mapping[str, Any], *, short: bool) -> list[str]:
    from pricing.money import format_usd

    usage = record["usage"]
    started = datetime.fromisoformat(record["started_at"])
    today = started.date() == datetime.now(UTC).date()
    return [
        f"{started:%H:%M:%S}"
        if today and short
        else f"{started:%m-%d %H:%M:%S}"
        if short
        else f"{started:%Y-%m-%d %H:%M:%S}",
        record["team"] or "-",
        record["model_served"] or record["model_requested"] or "-",
        str(record["status"] or "-"),
        f"{sum(usage.get(unit, 0) for unit in READ):,}",
        f"{sum(usage.get(unit, 0) for unit in WRITTEN):,}",
        format_usd(record["cost_nanousd"]) + ("*" if record["unpriced"] else ""),
        f"{record['latency_ms']:,.0f}",
        record["outcome"],
        record["call_id"][-SHORT_ID:] if short else record["call_id"],
    ]


def _follow(
    archive: Archive | RedisArchive,
    mark: Any,
    before: list[dict[str, Any]],
    matches: Callable[[Mapping[str, Any]], bool],
    *,
    as_json: bool,
) -> None:
    """Those of before, oldest first, then new ones as they are booked, until Ctrl-C."""
    if not as_json:
        click.echo(styled(row(STREAMED, HEAD), "bold"))
    new, seen = list(reversed(before)), {record["call_id"] for record in before}
    while True:
        for record in new:
            if as_json:
                print_json_line(record)
            else:
                cells = _cells(record, short=True)
                click.echo(row(STREAMED, [cells[0][-8:], *cells[1:]]))
        time.sleep(POLL_S)
        booked, mark = archive.settled(mark)
        new = [record for record in booked if matches(record) and record["call_id"] not in seen]
        seen.clear()


# -- one call -------------------------------------------------------------------------------------------------------------


def _one(settings: Settings, call_id: str, *, as_json: bool) -> None:
    from gateway.cli.one_call import show

    with reading(settings) as archive:
        record = archive.record(call_id) or _ending_in(archive, call_id)
        if record is None:
            fail(f"the store has no call {call_id}.", "tollgate calls lists the newest ones.", NO)
        if as_json:
            print_json(record)
            return
        packed = archive.book(str(record["pricebook"])) if record["usage_source"] else None
        show(record, packed)


def _ending_in(archive: Archive | RedisArchive, end: str) -> dict[str, Any] | None:
    """The one call, of the newest, whose id ends so."""
    if len(end) < LEAST_ID:
        return None
    found = [record for record in islice(archive.newest(), SEARCHED) if record["call_id"].endswith(end)]
    if len(found) > 1:
        fail(f"{len(found)} calls end in {end}.", f"One is {found[0]['call_id']}.", NO)
    return found[0] if found else None
