"""The pages hold together: links lead somewhere, the tests that they name are there, every page can be found."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from gateway.simulator import Simulator
from tests.harness.books import CHAT, post
from tests.harness.gateways import ROOT, config_for, in_process
from tests.harness.pages import anchors, blocks, links, pages, relative
from tests.harness.raw_client import ask

NAMES_TESTS = ["docs/what-happens-when.md", "docs/upgrading.md"]
TESTS = {
    node.name
    for path in (ROOT / "tests").rglob("test_*.py")
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
}
ALL = [*pages(), "ARCHITECTURE.md", "CHANGELOG.md", "THREATS.md", "benchmarks/README.md"]


def faults(page: str, found: list[str]) -> list[str]:
    """Links that lead nowhere: to no file, or to no heading of it."""
    wrong = []
    for target in found:
        place = relative(page, target).resolve() if not target.startswith("#") else ROOT / page
        name = place.relative_to(ROOT).as_posix()
        anchor = target.partition("#")[2]
        if not place.exists() or (anchor and place.suffix == ".md" and anchor not in anchors(name)):
            wrong.append(target)
    return wrong


@pytest.mark.parametrize("page", ALL)
def test_every_link_leads_somewhere(page: str) -> None:
    """To a file that is there, and to a heading that it has."""
    assert faults(page, links(page)) == []


def test_a_dead_link_is_found() -> None:
    """Of both kinds."""
    assert faults("docs/index.md", ["guide.md", "guide.md#budgets", "page.md"]) == []
    assert faults("docs/index.md", ["gide.md", "guide.md#budget", "../docs/nothing.md", "#nothing"]) == [
        "gide.md", "guide.md#budget", "../docs/nothing.md", "#nothing",
    ]  # fmt: skip


@pytest.mark.parametrize("page", [page for page in pages() if "/decisions/" not in page])
def test_every_page_is_on_the_map(page: str) -> None:
    """Two steps from the readme, at most."""
    mapped = {relative(start, link).resolve() for start in ("README.md", "docs/index.md") for link in links(start)}
    assert page == "README.md" or (ROOT / page).resolve() in mapped


@pytest.mark.parametrize("page", NAMES_TESTS)
def test_every_test_that_a_page_names_is_there(page: str) -> None:
    """A promise whose test is gone is none."""
    named = re.findall(r"`(test_\w+)`", (ROOT / page).read_text())
    assert len(named) >= 4
    assert [name for name in named if name not in TESTS] == []


def test_every_row_of_what_happens_when_names_its_test() -> None:
    """No row without a proof, and each cell is filled or left out on purpose."""
    text = (ROOT / "docs/what-happens-when.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith(("| what", "| ---"))]
    assert len(rows) >= 45
    assert [row for row in rows if not re.search(r"`test_\w+` \|$", row) or row.count("|") != 6] == []


@pytest.mark.asyncio
async def test_the_refusal_in_the_guide_is_what_a_refusal_is(tmp_path: Path) -> None:
    """The same fields in the same order, of the same kinds, around the same sentence."""
    (example,) = [json.loads(block.text)["error"] for block in blocks("docs/guide.md") if block.form == "json"]
    budgets = [{"scope": "team:search", "limit_usd": "0.002", "window": "day", "name": "search", "mode": "strict"}]
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1500}
    async with Simulator() as provider, in_process(tmp_path, config_for(tmp_path, provider.url, budgets=budgets)) as on:
        message = post(CHAT, body, "words=1500", ("x-tollgate-team", "search"))
        assert (await ask(on.front_port, message)).status == 200
        refused = await ask(on.front_port, message)
    assert refused.status == 429
    real = json.loads(refused.body.content)["error"]
    assert [(name, type(value)) for name, value in example.items()] == [(n, type(v)) for n, v in real.items()]
    assert shape(example["message"]) == shape(real["message"])


def shape(message: str) -> str:
    """Without its figures."""
    return re.sub(r"[\d.:T-]*\d[\d.:TZ-]*", "0", message)
