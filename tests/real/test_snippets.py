"""docs/sdks.md, word for word: each snippet is a program that is run, and the gateway's records say what it did."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from gateway.simulator import Simulator
from tests.harness import sdks
from tests.harness.gateways import ROOT, config_for, in_process, record_of, records
from tests.harness.pages import Block, blocks

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]  # the first one may have to install what it runs

PAGE = "docs/sdks.md"
ALL = blocks(PAGE)
SNIPPETS = [block for block in ALL if block.remark[0] == "calls"]
(CONFIG,) = [block for block in ALL if block.form == "yaml"]
LONGEST_S = 60
KINDS = {"whole", "silent", "stream", "refused"}
"""What a snippet's calls are, in order: ``silent`` ones are whole, but their client does not show the head of an answer."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    """A gateway with the page's config; only where the providers are is ours."""
    folder = tmp_path_factory.mktemp("snippets")
    async with Simulator() as provider:
        upstream = {"base_url": provider.url, "protocol": "gemini"}
        said = yaml.load(CONFIG.text, yaml.BaseLoader)  # amounts as they are written, and no floats
        config = config_for(folder, provider.url, upstreams={"gemini": upstream}, **said)
        async with in_process(folder, config) as serving:
            yield serving


def environment(gateway: Any) -> dict[str, str]:
    """What the page asks for, and what programs need to run at all; nothing else of ours."""
    front = gateway.front_url
    return {
        "OPENAI_BASE_URL": f"{front}/v1",
        "ANTHROPIC_BASE_URL": f"{front}/anthropic",
        "GOOGLE_GEMINI_BASE_URL": f"{front}/gemini",
        "TOLLGATE_ADMIN_URL": str(gateway.admin_url),
        **dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"), "any-key"),
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # or it asks GitHub for its prices before the first call
    }


def program(block: Block, folder: Path) -> list[str]:
    """The command that runs a snippet; skips by name what is not installed here."""
    if block.form == "python":
        found = sdks.python()
        if isinstance(found, str):
            pytest.skip(found)
        (folder / "snippet.py").write_text(block.text)
        return [str(found), "snippet.py"]
    if block.form == "js":
        modules = sdks.node()
        if isinstance(modules, str):
            pytest.skip(modules)
        (folder / "node_modules").symlink_to(modules)
        (folder / "snippet.mjs").write_text(block.text)
        return ["node", "snippet.mjs"]
    assert block.form == "bash", block
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    return ["bash", "-eu", "-c", block.text]


async def run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    """What it printed. It must end well."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        printed, complaint = await asyncio.wait_for(process.communicate(), LONGEST_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, complaint.decode()[-3000:] + printed.decode()[-1000:]
    return printed.decode()


def test_the_page_has_all_of_them() -> None:
    """Every program on it is marked with the calls that it makes, so that none is only read."""
    assert len(SNIPPETS) >= 12
    assert {block.form for block in SNIPPETS} == {"python", "js", "bash"}
    assert [block for block in ALL if block.form in {"python", "js"} and block not in SNIPPETS] == []
    names = {name for block in SNIPPETS for name in re.findall(r"^(?:from|import) (\w+)", block.text, re.MULTILINE)}
    assert {
        "openai",
        "anthropic",
        "google",
        "langchain_openai",
        "langchain_anthropic",
        "llama_index",
        "litellm",
    } <= names


def test_the_page_names_the_versions_that_are_run() -> None:
    """Whoever has another one knows what to compare with."""
    told = re.findall(r"^\| `([^`]+)` \| (pip|npm) \| ([\d.]+) \|", (ROOT / PAGE).read_text(), re.MULTILINE)
    ours = [(name, "pip", version) for name, version in sdks.PYTHON.items()]
    assert told == ours + [(name, "npm", version) for name, version in sdks.NPM.items()]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("block", SNIPPETS, ids=str)
async def test_a_snippet_does_what_the_page_says(gateway: Any, block: Block, tmp_path: Path) -> None:
    """Each of its calls is recorded, in order, with who spends and the cost that it printed; no other call is made."""
    kinds = [kind.strip() for kind in block.remark[1].split(",")]
    assert set(kinds) <= KINDS
    command = program(block, tmp_path)
    before = len(await records(gateway.admin_url, 0))
    printed = await run(command, tmp_path, environment(gateway))
    found = await records(gateway.admin_url, before + len(kinds))
    made = found[: len(found) - before][::-1]
    assert len(made) == len(kinds), [(each["status"], each["operation"]) for each in made]
    for kind, each in zip(kinds, made, strict=True):
        record = await record_of(gateway.admin_url, each["call_id"])
        assert (record["agent"], record["correlation_id"]) == ("planner", "trip-42")
        check(kind, record, printed)


def check(kind: str, record: dict[str, Any], printed: str) -> None:
    """A record is what the snippet's call should have come to."""
    if kind == "refused":
        assert (record["team"], record["outcome"], record["error_type"]) == ("broke", "refused", "budget_exceeded")
        assert (record["status"], record["cost_nanousd"], record["attempts"]) == (429, 0, 0)
        assert "team:broke" in printed
        return
    assert (record["team"], record["status"], record["outcome"]) == ("search", 200, "completed")
    assert record["stream"] is (kind == "stream")
    assert record["usage_source"] in (("provider", "counted") if kind == "stream" else ("provider",))
    assert record["usage"]["output"] == 20
    assert record["cost_nanousd"] > 0
    if kind == "whole":
        costs = re.findall(r"cost(?:-usd)?: ([\d.]+)", printed)
        assert record["cost_nanousd"] in [int(Decimal(cost).scaleb(9)) for cost in costs]
