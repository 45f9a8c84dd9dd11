"""A run as Markdown: the bars, and a table for each measure. And the block of a page that a run writes anew."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from bars import DIRECT, Verdict, judge

Tables = dict[str, dict[str, dict[str, Any]]]
US, KB, COUNT = "{:,.0f}", "{:.1f}", "{:,.0f}"
EXECUTED = ("thousand instructions", "thousands", "{:,.1f}")
"""In user mode; only where the machine counts them."""
CALLS = (("CPU us a call", "cpu_us", US), ("calls a second, one core", "per_second", COUNT))
EVENTS = (("CPU us an event", "cpu_us", "{:.1f}"), ("events a second", "per_second", COUNT))
DELAYS = tuple((f"p{name}", f"p{name.replace('.', '')}_us", US) for name in ("50", "99", "99.9"))
SHAPES: dict[str, tuple[str, tuple[tuple[str, str, str], ...]]] = {
    "cpu_1kb": ("A call with a prompt of 1 KB", CALLS),
    "cpu_10kb": ("10 KB", CALLS),
    "cpu_100kb": ("100 KB", CALLS),
    "variants": ("1 KB, with one thing done otherwise", CALLS),
    "litellm": ("1 KB, beside LiteLLM's proxy", CALLS),
    "embeddings": ("An embedding: 1 KB there, 32 KB back", CALLS),
    "tls": ("1 KB, the provider behind TLS", CALLS),
    "events_50": ("Streams of 50 events, one each 10 ms", EVENTS[:1]),
    "events_300": ("Streams of 300 events, one each 10 ms", EVENTS[:1]),
    "bursts_300": ("Streams of 300 events, as fast as they come", EVENTS),
    "latency": ("1,000 calls a second, open loop: what a system adds, us", DELAYS),
    "streams": (
        "1,000 open streams, an event a second each: memory, and what a system adds to an event's way, us",
        (("KB a stream", "kb_per_stream", KB), *DELAYS),
    ),
    "start": (
        "Start and memory",
        (("s to the first served call", "start_s", "{:.2f}"), ("MB idle", "idle_mb", US), ("MB after load", "loaded_mb", US)),
    ),
}  # fmt: skip
"""Of each measure: its title, and its columns with the figure and its form."""
AGAINST = "bare aiohttp"


def markdown(run: dict[str, Any]) -> str:
    tables: Tables = run["tables"]
    parts = [machine(run), bars(judge(tables))]
    parts += [table(name, tables[name]) for name in SHAPES if name in tables]
    return "\n\n".join(parts)


def machine(run: dict[str, Any]) -> str:
    of, how = run["machine"], run["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in of["versions"].items())
    return (
        f"{run['date']}; {of['processor']}, {of['cores']} cores, {of['memory_gb']} GB, Linux {of['kernel']}, Python {of['python']};\n{versions}.\n"
        f"Medians of {how['rounds']} rounds of {how['seconds']:g} s; load of the machine before it began: {of['load']}."
    )


def number(value: float, unit: str) -> str:
    """A small ratio is read better as a share: 1/40."""
    if unit == "x" and 0 < value < 0.1:
        return f"1/{1 / value:.0f}"
    return f"{value:.2f} {unit}" if abs(value) < 100 else f"{value:,.0f} {unit}"


def bars(verdicts: list[Verdict]) -> str:
    lines = ["| bar | at most | stretch | this run | |", "| --- | ---: | ---: | ---: | --- |"]
    for verdict in (each for each in verdicts if each.value is not None):
        bar = verdict.bar
        aims = (bar.at_most, bar.stretch, verdict.value)
        cells = " | ".join("" if value is None else number(value, bar.unit) for value in aims)
        lines.append(f"| {bar.what} | {cells} | {verdict.word} |")
    missing = [verdict.bar.what for verdict in verdicts if verdict.value is None]
    return "\n".join(lines) + (f"\n\nNot measured in this run: {'; '.join(missing)}." if missing else "")


def table(measure: str, systems: dict[str, dict[str, Any]]) -> str:
    """One row a system. Where load without a system was measured too, delays are differences to it; it stands last, as it is."""
    title, columns = SHAPES[measure]
    if all(EXECUTED[1] in found for found in systems.values()):
        columns = (columns[0], EXECUTED, *columns[1:])
    direct = systems.get(DIRECT)
    compared = "cpu_us" in columns[0] and AGAINST in systems
    heads = [name for name, _, _ in columns] + ([f"against {AGAINST}"] if compared else [])
    lines = [f"| {title} | " + " | ".join(heads) + " |", "| --- |" + " ---: |" * len(heads)]
    for name, found in systems.items():
        cells = []
        for _, figure, form in columns:
            less = direct[figure] if direct and figure.endswith("_us") and found is not direct else 0
            cells.append("" if found is direct and figure == "kb_per_stream" else form.format(found[figure] - less))
        if compared:
            cells.append(f"{found['cpu_us'] / systems[AGAINST]['cpu_us']:.2f}x")
        shown = "(the load alone, in all)" if found is direct else name
        lines.append(f"| {shown} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def into(page: Path, name: str, text: str) -> None:
    """Put it between ``<!-- measured: NAME -->`` and ``<!-- end of NAME -->``; SystemExit where the page has no such block."""
    begin, end = f"<!-- measured: {name} -->", f"<!-- end of {name} -->"
    before = page.read_text()
    after, found = re.subn(
        f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}\n\n{text}\n\n{end}", before, flags=re.DOTALL
    )
    if found != 1:
        raise SystemExit(f"{page.name} has {found} blocks between {begin} and {end}; it should have one")
    page.write_text(after)
