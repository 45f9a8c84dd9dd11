"""Every fenced block of README and docs is run or checked, by its kind; one that cannot be says why in a comment above it.

A page is played from top to bottom in one folder. ``<!-- not run: why -->`` above a block leaves it out, ``<!-- exits: 1 -->``
says how it ends, ``<!-- shows: text -->`` what it prints.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from gateway.loading import Problems, load
from tests.harness.gateways import ROOT
from tests.harness.pages import Block, blocks, blocks_in, pages
from tests.harness.redis_servers import Server, redis_binary
from tests.harness.stage import Stage, is_config, stage

ELSEWHERE = {
    "docs/keys.md": "tests/docs/test_keys_page.py",
    "docs/sdks.md": "tests/real/test_snippets.py",
}
"""Pages that a test of their own plays, because what they show has to be filled in."""
SHELL = re.compile(
    r"(?:(?:\.venv/bin/)?(?:tollgate|pip|python)|scripts/\w+|curl|export|promtool|apt-get|docker|kubectl|cat)\b"
)
"""How each line of an untagged block begins that is to be typed; any other one is shown."""
MADE = "docs/reference/"
"""Pages that are made from the code, and compared with it by a test of their own."""
GIVEN = {
    "docs/guide.md": {
        name: {
            "object": "page",
            "data": [{"object": "bucket", "start_time": 0, "end_time": 86_400, "results": [result]}],
            "has_more": False,
        }
        for name, result in {
            "usage.json": {"object": "organization.usage.completions.result", "model": "gpt-4o-mini", "input_tokens": 0,
                           "output_tokens": 0, "num_model_requests": 0},
            "costs.json": {"object": "organization.costs.result", "line_item": "gpt-4o-mini, input",
                           "amount": {"value": 0, "currency": "usd"}},
        }.items()
    },
}  # fmt: skip
"""Files that a page takes to be there: an export of a day without calls."""
SHOWN = {"text", "promql", "http", "diff"}
PAGES = [page for page in pages() if page not in ELSEWHERE and not page.startswith(MADE) and blocks(page)]


def kind(block: Block) -> str:
    """What is done with a block."""
    if block.excuse:
        return "excused"
    form = block.form or ("bash" if all(map(SHELL.match, block.text.splitlines())) else "text")
    if form == "yaml":
        return "config" if is_config(block.text) else "prices" if "rows" in yaml.safe_load(block.text) else "unknown"
    names = {"bash": "shell", "sh": "shell", "console": "shell", "python": "program", "json": "json"}
    return names.get(form, "shown" if form in SHOWN else "unknown")


def typed(block: Block) -> str:
    """What is to be typed: of a console, the lines behind the prompt."""
    if block.form != "console":
        return block.text
    return "".join(f"{line[2:]}\n" for line in block.text.splitlines() if line.startswith("$ "))


async def play(block: Block, on: Stage, folder: Path) -> None:
    """Run or check it; AssertionError, Problems or ValueError when it is not right."""
    what = kind(block)
    printed = ""
    if what == "config":
        await on.config(block)
    elif what == "prices":
        prices = on.folder / "prices.yaml"
        prices.write_text(block.text)
        (folder / "priced.yaml").write_text(yaml.safe_dump({"pricing": {"overrides": str(prices)}}))
        load(folder / "priced.yaml", {})
    elif what == "shell":
        printed = await on.shell(replace(block, text=typed(block)))
    elif what == "program":
        printed = await on.program(block)
    elif what == "json":
        json.loads(block.text)
    assert what != "unknown", f"{block}: nobody knows how to check ```{block.form}; say why not in a comment above it"
    if block.remark[0] == "shows":
        assert block.remark[1] in printed, f"{block} printed:\n{printed[-2000:]}"


@asynccontextmanager
async def server_for(found: list[Block]) -> AsyncIterator[dict[str, int]]:
    """A Redis of the page's own, where it takes one to be there: its port for the one that the page names."""
    if not any("127.0.0.1:6379" in block.text for block in found):
        yield {}
        return
    binary = redis_binary()
    if binary is None:
        pytest.skip("redis-server is not installed")
    server = Server(binary)
    try:
        yield {"6379": server.port}
    finally:
        server.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("page", PAGES)
async def test_every_example_of_a_page_is_right(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a reader would do it: one block after the other, in one folder."""
    found = blocks(page)
    if shutil.which("curl") is None and any("curl " in block.text for block in found):
        pytest.skip("curl is not installed")
    async with server_for(found) as ports, stage(tmp_path, ports) as on:
        monkeypatch.chdir(on.folder)  # where a config's relative paths begin
        for name, content in GIVEN.get(page, {}).items():
            (on.folder / name).write_text(json.dumps(content))
        for block in found:
            try:
                await play(block, on, tmp_path)
            except Problems as problems:
                pytest.fail(f"{block}: {problems}")


def test_what_is_run_and_what_is_not(record_property: pytest.RecordProperty) -> None:
    """A page that is excused bit by bit would be noticed here."""
    found = Counter(kind(block) for page in PAGES for block in blocks(page))
    for what, number in found.items():
        record_property(what, number)
    print(dict(found))
    assert found["unknown"] == 0
    assert found["shell"] >= 20
    assert found["config"] >= 15
    run = sum(number for what, number in found.items() if what not in {"excused", "shown"})
    assert found["excused"] * 3 <= run, [str(each) for page in PAGES for each in blocks(page) if each.excuse]


@pytest.mark.parametrize("page", ELSEWHERE)
def test_a_page_that_is_played_elsewhere_is(page: str) -> None:
    """By a test that reads it."""
    assert Path(page).name in (ROOT / ELSEWHERE[page]).read_text()


WRONG = [
    "```yaml\nbudgets:\n  - {scope: team:a, limit: 3}\n```\n",
    "```bash\ntollgate price gpt-4o-mini --inputs 10\n```\n",
    "```bash\ncurl -sSf http://127.0.0.1:8081/api/v1/nothing\n```\n",
    "```python\nimport nothing_of_the_kind\n```\n",
    "```json\n{'a': 1}\n```\n",
    "```toml\na = 1\n```\n",
    "```console\n$ tollgate price gpt-4o --input 1\nanything\n$ tollgate prize\n```\n",
    "<!-- shows: $0.00015 -->\n```bash\ntollgate price gpt-4o-mini --input 0\n```\n",
    "<!-- exits: 1 -->\n```bash\ntollgate price gpt-4o-mini --input 1000\n```\n",
]


@pytest.mark.asyncio
@pytest.mark.parametrize("text", WRONG)
async def test_a_wrong_example_is_found(text: str, tmp_path: Path) -> None:
    """Each kind of block can fail."""
    (block,) = blocks_in("docs/wrong.md", text)
    async with stage(tmp_path) as on:
        with pytest.raises((AssertionError, Problems, ValueError)):
            await play(block, on, tmp_path)
