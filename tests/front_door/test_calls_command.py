"""``tollgate calls``, ``tollgate status`` and ``report --format focus`` against calls that were really made."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.simulator import Simulator
from tests.front_door.conftest import Serve
from tests.harness.books import CALLS, CHAT, MINI, post
from tests.harness.gateways import ROOT, records
from tests.harness.raw_client import ask

pytestmark = pytest.mark.asyncio(loop_scope="module")
POOR = [{"scope": "team:poor", "limit_usd": "0.000000001", "window": "total"}]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[Simulator]:
    """The pretend provider."""
    async with Simulator() as simulator:
        yield simulator


@pytest.fixture(params=["sqlite", "redis"])
def blocks(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """What a config says of its store, for each kind of it."""
    if request.param == "sqlite":
        return {}
    return {"store": {"url": request.getfixturevalue("server").tcp_url, "journal": str(tmp_path / "journal")}}


async def run(folder: Path, command: str, *options: str, env: dict[str, str] | None = None) -> Result:
    """A command on the gateway's own config, in a thread: the gateway serves on."""
    arguments = [command, "--config", str(folder / "tollgate.yaml"), *options]
    return await asyncio.to_thread(lambda: CliRunner().invoke(main, arguments, env=env))


async def made(gateway: Any) -> list[dict[str, Any]]:
    """A good call, a refused one and one of an odd name; their records, newest first."""
    odd = MINI | {"model": "\x1b[2J[red]odd"}
    for team, body in (("search", MINI), ("poor", MINI), ("search", odd)):
        await ask(gateway.front_port, post(CHAT, body, "words=9", ("X-Tollgate-Team", team)))
    return await records(gateway.admin_url, 3)


async def test_the_latest_calls(provider: Simulator, serve: Serve, tmp_path: Path, blocks: dict[str, Any]) -> None:
    """Newest first; each filter leaves what it names; JSON is the records, a line each."""
    gateway = await serve(provider.url, budgets=POOR, **blocks)
    found = await made(gateway)
    lines = (await run(tmp_path, "calls")).output.splitlines()
    assert [line.split()[-1] for line in lines[1:]] == [record["call_id"] for record in found]
    assert not re.search(r"[^\n -~\ufffd\u2026]", "\n".join(lines))
    told = [json.loads(line) for line in (await run(tmp_path, "calls", "--json")).output.splitlines()]
    assert [each["call_id"] for each in told] == [record["call_id"] for record in found]
    refused = next(record for record in found if record["outcome"] == "refused")

    async def left(*options: str) -> list[str]:
        result = await run(tmp_path, "calls", "--json", *options)
        return [json.loads(line)["call_id"] for line in result.output.splitlines()]

    one = [refused["call_id"]]
    for options in (
        ("--team", "poor"),
        ("--outcome", "refused"),
        ("--status", "429"),
        ("--correlation-id", refused["correlation_id"]),
    ):
        assert await left(*options) == one, options
    assert len(await left("--model", "gpt-*")) == 2
    assert len(await left("--limit", "2")) == 2
    assert await left("--until", "2020-01-01") == await left("--since", "2099-01-01") == []
    assert "no such calls" in (await run(tmp_path, "calls", "--team", "nobody")).output


async def test_one_call_in_full(provider: Simulator, serve: Serve, tmp_path: Path) -> None:
    """By its id or the end of it: usage, the lines of its price, time, and why it was refused."""
    gateway = await serve(provider.url, budgets=POOR)
    found = await made(gateway)
    by_team = {record["team"]: record for record in found if record["model_requested"] == "gpt-4o-mini"}
    text = (await run(tmp_path, "calls", by_team["search"]["call_id"][-12:])).output
    for part in (
        by_team["search"]["call_id"],
        "completed",
        by_team["search"]["cost_usd"],
        "input",
        "output",
        "team search",
        "whole call",
    ):
        assert part in text
    text = (await run(tmp_path, "calls", by_team["poor"]["call_id"])).output
    assert "A budget has no room before it resets." in text
    assert "team:poor/total" in text
    record = json.loads((await run(tmp_path, "calls", by_team["poor"]["call_id"], "--json")).output)
    assert record["budgets"] == by_team["poor"]["budgets"]
    for unknown in ("nobody-knows", "f"):
        result = await run(tmp_path, "calls", unknown)
        assert (result.exit_code, "has no call" in result.stderr) == (1, True)


async def test_new_calls_are_followed(
    provider: Simulator, serve: Serve, tmp_path: Path, blocks: dict[str, Any]
) -> None:
    """A line as each is booked, until Ctrl-C, which is status 130."""
    gateway = await serve(provider.url, **blocks)
    await ask(gateway.front_port, post(*CALLS["chat"]))
    (first,) = await records(gateway.admin_url, 1)
    command = [
        sys.executable,
        "-m",
        "gateway",
        "calls",
        "--follow",
        "--json",
        "--config",
        str(tmp_path / "tollgate.yaml"),
    ]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            assert json.loads(await process.stdout.readline())["call_id"] == first["call_id"]
            for count in (2, 3):
                await ask(gateway.front_port, post(*CALLS["chat"]))
                newest = (await records(gateway.admin_url, count))[0]
                assert json.loads(await process.stdout.readline())["call_id"] == newest["call_id"]
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 130
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_status_says_how_a_gateway_does(provider: Simulator, serve: Serve, tmp_path: Path) -> None:
    """Ready is 0; the token comes from a file, the environment or the config, and never from an argument."""
    gateway = await serve(provider.url, admin={"port": 0, "token": "open-sesame"})
    await ask(gateway.front_port, post(*CALLS["chat"]))
    url = gateway.admin_url
    (tmp_path / "token.txt").write_text("open-sesame\n")
    by_file = await run(tmp_path, "status", "--url", url, "--token-file", str(tmp_path / "token.txt"))
    assert (by_file.exit_code, "ready" in by_file.output) == (0, True)
    for name in ("store", "upstreams", "openai", "config"):
        assert name in by_file.output
    by_variable = await run(tmp_path, "status", "--url", url, "--json", env={"TOLLGATE_ADMIN_TOKEN": "open-sesame"})
    told = json.loads(by_variable.output)
    assert (told["ready"], told["health"]["status"], told["state"]["status"]) == (True, "ready", "ok")
    config = yaml.safe_load((tmp_path / "tollgate.yaml").read_text())
    config["admin"]["port"] = gateway.admin_port
    (tmp_path / "tollgate.yaml").write_text(yaml.safe_dump(config))
    assert (await run(tmp_path, "status")).exit_code == 0
    wrong = await run(tmp_path, "status", "--url", url, env={"TOLLGATE_ADMIN_TOKEN": "guessed"})
    assert (wrong.exit_code, "does not know this token" in wrong.stderr) == (2, True)
    assert "guessed" not in wrong.output
    none = await run(tmp_path, "status", "--url", url, env={"TOLLGATE_ADMIN_TOKEN": ""})
    assert (none.exit_code, "wants a token" in none.stderr) == (2, True)


async def test_status_takes_nothing_else_for_a_state(provider: Simulator, serve: Serve, tmp_path: Path) -> None:
    """The front in place of the admin listener, and one that looks at no token for a minute: neither is ready or not ready."""
    gateway = await serve(provider.url, admin={"port": 0, "token": "open-sesame"})
    front = await run(tmp_path, "status", "--url", f"http://127.0.0.1:{gateway.front_port}")
    assert (front.exit_code, "is no admin listener" in front.stderr) == (3, True)
    assert "not the one that apps call" in front.stderr
    for _ in range(11):
        await run(tmp_path, "status", "--url", gateway.admin_url, env={"TOLLGATE_ADMIN_TOKEN": "guessed"})
    locked = await run(tmp_path, "status", "--url", gateway.admin_url, env={"TOLLGATE_ADMIN_TOKEN": "open-sesame"})
    assert (locked.exit_code, locked.stdout) == (3, "")
    assert re.search(r"too many wrong tokens .*\nTry again in \d+ seconds", locked.stderr)


async def test_status_of_one_that_is_not_ready(provider: Simulator, serve: Serve, tmp_path: Path) -> None:
    """1, and it says which check failed."""
    gateway = await serve(provider.url, observability={"health": {"disk_free_mb": 10**9}})
    async with asyncio.timeout(20):
        while (result := await run(tmp_path, "status", "--url", gateway.admin_url)).exit_code != 1:
            await asyncio.sleep(0.05)
    line = next(line for line in result.output.splitlines() if line.startswith("disk"))
    assert "failed" in line


async def test_focus_is_the_report(provider: Simulator, serve: Serve, tmp_path: Path) -> None:
    """To the nano-dollar, corrections included; into a file that is not replaced by accident."""
    (tmp_path / "prices.json").write_text(json.dumps({"rows": []}))
    gateway = await serve(provider.url, budgets=POOR, pricing={"overrides": str(tmp_path / "prices.json")})
    await made(gateway)
    await ask(gateway.front_port, post(CHAT, MINI | {"model": "our-model"}, "", ("X-Tollgate-User", "ann")))
    await records(gateway.admin_url, 4)
    row = {"id": "ours", "provider": "openai", "names": ["our-model"], "rates": {"input": "1", "output": "2"}}
    (tmp_path / "prices.json").write_text(json.dumps({"rows": [row]}))
    assert "1 corrections were booked" in (await run(tmp_path, "correct", "--write")).output
    path = tmp_path / "focus.csv"
    options = ("report", "--format", "focus", "--output", str(path))
    assert (await run(tmp_path, *options)).exit_code == 0
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    total = json.loads((await run(tmp_path, "report", "--json")).output)["total"]
    assert sum(Decimal(row["BilledCost"]) for row in rows) * 10**9 == total["cost_nanousd"]
    assert {row["SubAccountId"] for row in rows} == {"search", ""}
    assert [row["Tags"] for row in rows if row["Tags"]] == ['{"user": "ann"}'] * 2
    assert sum("Correction" in row["ChargeDescription"] for row in rows) == 1
    again = await run(tmp_path, *options)
    assert (again.exit_code, "--force replaces it" in again.stderr) == (2, True)
    assert (await run(tmp_path, *options, "--force")).exit_code == 0
    assert sorted(each.name for each in tmp_path.glob("*focus*")) == ["focus.csv"]
    printed = (await run(tmp_path, "report", "--format", "focus")).output
    assert list(csv.DictReader(io.StringIO(printed))) == rows


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--format", "focus", "--by", "team"), "leave out --by"),
        (("--format", "csv", "--json"), "two formats"),
        (("--format", "focs"), "Did you mean 'focus'?"),
        (("--by", "taem"), "Did you mean 'team'?"),
        (("--sinc", "2026-11-01"), "Did you mean '--since'?"),
        (("--output", "nowhere/report.csv"), "nowhere"),
    ],
)
async def test_what_does_not_go_together_says_so(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    """Exit status 2, one form, no stack."""
    (tmp_path / "tollgate.yaml").write_text(yaml.safe_dump({"store": {"url": f"sqlite:///{tmp_path}/none.db"}}))
    result = await run(tmp_path, "report", *options)
    assert (result.exit_code, said in result.stderr) == (2, True), result.output
    assert result.stderr.startswith("tollgate: error: ")
    assert "Traceback" not in result.output


async def test_a_comparison(provider: Simulator, serve: Serve, tmp_path: Path) -> None:
    """Everything is new where nothing was before; table, CSV and JSON say the same."""
    gateway = await serve(provider.url)
    await made(gateway)
    told = json.loads((await run(tmp_path, "report", "--compare", "--json")).output)
    assert told["total"]["change_nanousd"] == told["total"]["cost_nanousd"] > 0
    table = (await run(tmp_path, "report", "--compare")).output
    assert f"+{told['total']['cost_usd']}" in table
    lines = list(csv.DictReader(io.StringIO((await run(tmp_path, "report", "--compare", "--format", "csv")).output)))
    assert sum(Decimal(line["change_usd"]) for line in lines) == Decimal(told["total"]["change_usd"])
