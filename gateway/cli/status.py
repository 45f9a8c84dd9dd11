"""``tollgate status``: a running gateway at a glance, asked of its admin listener."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from gateway.cli.config import config_option, read_config
from gateway.cli.listener import TOKEN_VARIABLE, WHICH, listener
from gateway.cli.manual import CONFIG_FILES, CONFIG_VARIABLES, Command, json_option, option
from gateway.cli.output import DONE, NO, UNREACHABLE, Column, clean, fail, print_json, styled, table

WHERE = "Which gateway"
PAINT = {
    "ok": "green",
    "up": "green",
    "ready": "green",
    "warn": "yellow",
    "draining": "yellow",
    "failed": "red",
    "failing": "red",
}


@click.command(
    cls=Command,
    examples=(
        ("The gateway of ./tollgate.yaml, or of the defaults.", "tollgate status"),
        ("Another one; its token is in a file.", "tollgate status --url http://10.0.0.7:8081 --token-file token.txt"),
        ("Wait until it is ready.", "until tollgate status --json > status.json; do sleep 1; done"),
    ),
    exits={1: "It is not ready: a check failed, or it is being stopped.", 3: "It cannot be reached."},
    variables={TOKEN_VARIABLE: "The token of the admin listener, where --token-file names none.", **CONFIG_VARIABLES},
    files={"./tollgate.yaml": CONFIG_FILES["./tollgate.yaml"], "--token-file": "The token alone, on one line."},
)
@option("--url", metavar="URL", help="Its admin listener. Default: that of the config.", section=WHERE)
@option(
    "--token-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help=f"A file with its admin.token. Default: ${TOKEN_VARIABLE}, else that of the config.",
    section=WHERE,
)
@config_option
@json_option
def status(url: str | None, token_file: Path | None, config: Path | None, as_json: bool) -> None:
    """Ask a running gateway whether it is ready, what runs, and how its upstreams do."""
    settings = read_config(config)[0] if url is None else None
    asked = listener(settings, url, token_file)
    code, ready = asked.ask("/health/ready")
    if "checks" not in ready:
        fail(f"{asked.url} is no admin listener: it answered {code} at /health/ready.", WHICH, UNREACHABLE)
    _, state = asked.ask("/system/llm-status")
    if as_json:
        print_json({"url": asked.url, "ready": code == 200, "health": ready, "state": state})
    else:
        _show(asked.url, ready, state)
    sys.exit(DONE if code == 200 else NO)


def _show(url: str, ready: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    told = str(ready.get("status", "failed"))
    click.echo(
        f"{clean(url)}: {styled(clean(told), PAINT.get(told, 'red'))}, up {_span(float(state.get('uptime_s', 0)))}"
    )
    click.echo(
        clean(
            f"version {state.get('version')}, config {state.get('config_version')}, price book {state.get('pricebook')};"
            f" {state.get('active_requests', 0)} calls on their way, {state.get('queue_depth', 0)} wait for the books"
        )
    )
    checks = ready.get("checks", {})
    click.echo()
    table(
        [
            Column("check", whole=True),
            Column("status", whole=True, styles=PAINT),
            Column("measured", "right"),
            Column("what is wrong"),
        ],
        [[name, each.get("status"), _measured(each), each.get("output", "")] for name, each in checks.items()],
    )
    click.echo()
    table(
        [
            Column("upstream"), Column("state", whole=True, styles=PAINT), Column("calls/min", "right"), Column("errors", "right"),
            Column("ms", "right", spare=1), Column("first ms", "right", spare=2), Column("$/min", "point"), Column("last error", spare=3),
        ],
        [_upstream(each) for each in state.get("upstreams", ())],
        ["all", "", *_minute(state.get("last_minute", {})), ""],
    )  # fmt: skip
    _active(state.get("active", ()))


def _upstream(told: Mapping[str, Any]) -> list[str]:
    last = told.get("last_error")
    return [
        str(told.get("name")),
        str(told.get("state")),
        *_minute(told.get("last_minute", {})),
        f"{last['kind']} at {str(last['at'])[11:19]}" if last else "",
    ]


def _minute(told: Mapping[str, Any]) -> list[str]:
    errors = sum(told.get("errors", {}).values())
    times = (told.get("latency_ms"), told.get("ttft_ms"))
    return [
        f"{told.get('calls', 0):,}",
        f"{errors:,}",
        *(f"{each:,.0f}" if each is not None else "-" for each in times),
        str(told.get("cost_usd_per_minute", "-")),
    ]


def _active(active: Sequence[Mapping[str, Any]]) -> None:
    if active:
        click.echo()
        columns = [Column("on their way to"), Column("model"), Column("calls", "right")]
        table(columns, [[each["upstream"], each["model"], f"{each['calls']:,}"] for each in active])


def _measured(check: Mapping[str, Any]) -> str:
    value = check.get("observedValue")
    return "" if value is None else f"{value} {check.get('observedUnit', '')}".strip()


def _span(seconds: float) -> str:
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {int(seconds) % 60} s" if minutes else f"{int(seconds)} s"
