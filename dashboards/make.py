"""Writes Grafana's dashboards, or with --check says which of them differ from what this program would write.

python dashboards/make.py [--check]
"""

from __future__ import annotations

import sys
from pathlib import Path

import budgets
import internals
import latency
import overview
import providers

FOLDER = Path(__file__).parents[1] / "config" / "grafana" / "dashboards"
BOARDS = {f"{board.__name__}.json": board.TEXT for board in (overview, budgets, latency, providers, internals)}


def main(arguments: list[str]) -> int:
    """0 when the files are, or now are, what they should be."""
    stale = [name for name, text in BOARDS.items() if not _is(FOLDER / name, text)]
    strange = [path.name for path in FOLDER.glob("*.json") if path.name not in BOARDS]
    if "--check" in arguments:
        for name in (*stale, *strange):
            print(f"{name} is not what dashboards/make.py writes")
        return 1 if stale or strange else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in stale:
        (FOLDER / name).write_text(BOARDS[name], encoding="utf-8")
        print(f"{name} written")
    return 0


def _is(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
