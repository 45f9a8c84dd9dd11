"""Markdown pages as their readers take them: fenced blocks, what stands right above each, and links.

Owns what a block is taken for. Must not know how any kind of block is run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.harness.gateways import ROOT

FENCE = re.compile(r"^(?P<indent> *)```(?P<form>[\w+-]*)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)
REMARK = re.compile(r" *<!-- (?P<name>[a-z ]+?)(?:: (?P<value>.*))? -->")
LINK = re.compile(r"(?<!!)\[[^\]]+\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ (?P<title>.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """``page`` from the root on, ``line`` of the fence, ``form`` behind it, ``remarks``: the comment right above, name: value."""

    page: str
    line: int
    form: str
    text: str
    remark: tuple[str, str] = ("", "")

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def excuse(self) -> str:
        """Why it is not run; empty where nobody says so."""
        return self.remark[1] if self.remark[0] == "not run" else ""


def pages() -> list[str]:
    """Every page that has examples for users, from the root on."""
    found = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
    return ["README.md", "CONTRIBUTING.md", *found]


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = (ROOT / page).read_text()
    return list(blocks_in(page, text))


def blocks_in(page: str, text: str) -> list[Block]:
    """As above, of a text."""
    found = []
    for match in FENCE.finditer(text):
        above = REMARK.fullmatch(text[: match.start()].rstrip().rpartition("\n")[2])
        remark = (above["name"], above["value"] or "") if above else ("", "")
        body = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
        found.append(Block(page, text.count("\n", 0, match.start()) + 1, match["form"], body, remark))
    return found


def links(page: str) -> list[str]:
    """Relative links of a page, as they are written; none of those in code."""
    text = FENCE.sub("", (ROOT / page).read_text())
    text = re.sub(r"`[^`\n]*`", "", text)
    return [target for target in LINK.findall(text) if "://" not in target and not target.startswith("mailto:")]


def anchors(page: str) -> set[str]:
    """What a link to a heading of the page may say behind its #, as GitHub makes it."""
    text = FENCE.sub("", (ROOT / page).read_text())
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in HEADING.findall(text)}


def relative(page: str, target: str) -> Path:
    """Where a link of a page leads."""
    return (ROOT / page).parent / target.partition("#")[0]
