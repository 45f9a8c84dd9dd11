"""The demonstration behind ``tollgate demo``: a gateway, a pretend provider, three teams and their calls."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import click

from gateway.app import Gateway, running
from gateway.canonical import canonical
from gateway.settings import Admin, Budget, Front, Logging, Observability, Settings, Store, Upstream
from gateway.simulator import Simulator
from pricing.money import format_usd

PACE_S = 0.01
CONFIG = "tollgate.yaml"
SUPPORT_LIMIT_NANOUSD = 2_000_000
WAIT_FOR_RECORD_S = 60.0
"""The first call whose tokens nobody has counted makes a vocabulary ready: seconds, on a slow machine."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One call of the sample traffic."""

    team: str
    path: str
    body: dict[str, Any]
    wish: str = ""


def _chat(model: str, text: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def _samples() -> list[Sample]:
    """Three teams: one streams, one embeds and asks Anthropic, one runs into its budget of $0.002 a day."""
    told = {"stream": True, "stream_options": {"include_usage": True}}
    calls = [
        Sample(
            "search", "/v1/chat/completions", _chat("gpt-4o-mini", "How many bytes does a gateway change?"), "words=40"
        ),
        Sample("search", "/v1/chat/completions", _chat("gpt-4o-mini", "Tell me more.", **told), "words=60"),
        Sample(
            "search",
            "/v1/chat/completions",
            _chat("gpt-4o-mini", "And without usage in the stream?", stream=True),
            "words=45",
        ),
        Sample(
            "search",
            "/v1/responses",
            {"model": "gpt-4o", "input": "What is a token?", "stream": True},
            "words=50;cached=2",
        ),
        Sample(
            "research",
            "/v1/embeddings",
            {"model": "text-embedding-3-small", "input": ["a call", "a hold", "a receipt"]},
        ),
        Sample(
            "research",
            "/anthropic/v1/messages",
            _chat("claude-haiku-4-5", "Summarise.", max_tokens=200, stream=True),
            "words=80",
        ),
        Sample("research", "/anthropic/v1/messages", _chat("claude-haiku-4-5", "Shorter.", max_tokens=50), "words=30"),
        Sample(
            "research",
            "/v1/chat/completions",
            _chat("gpt-4o", "A provider's error goes through as it is."),
            "status=500",
        ),
    ]
    question = _chat("gpt-4o-mini", "Where is my order?", max_completion_tokens=900)
    return calls + [Sample("support", "/v1/chat/completions", question, "words=700") for _ in range(6)]


async def demonstrate(port: int, admin_port: int, *, once: bool) -> int:
    """Returns the exit status."""
    with tempfile.TemporaryDirectory(prefix="tollgate-demo-") as folder:
        async with (
            Simulator(pace=PACE_S) as provider,
            _quiet_gateway(provider, Path(folder), port, admin_port) as gateway,
        ):
            click.echo(
                f"Tollgate serves on {gateway.front_url}, behind it a pretend provider. Three teams make a few calls.\n"
            )
            refusal = await _traffic(gateway)
            await _show_budgets(gateway)
            _show_refusal(refusal)
            _show_next(gateway, Path(folder) / CONFIG)
            if not once:
                await _until_told()
    return 0


@contextlib.asynccontextmanager
async def _quiet_gateway(provider: Simulator, folder: Path, port: int, admin_port: int) -> AsyncIterator[Gateway]:
    """The gateway of the demo: the pretend provider upstream, books in a temporary folder, calls not logged."""
    settings = Settings(
        front=Front(port=port, shutdown_grace=2.0),
        admin=Admin(port=admin_port),
        store=Store(url=f"sqlite:///{folder}/demo.db"),
        upstreams={
            "openai": Upstream(f"{provider.url}/v1", "openai", "openai"),
            "anthropic": Upstream(provider.url, "anthropic", "anthropic"),
            "gemini": Upstream(provider.url, "gemini", "google"),
        },
        budgets=(
            Budget("team:support", SUPPORT_LIMIT_NANOUSD, "day"),
            Budget("team:*", 1_000_000_000, "day"),
        ),
        observability=Observability(logging=Logging(level="warning", format="console")),
    )
    (folder / CONFIG).write_text(json.dumps(canonical(settings)))  # JSON is YAML; other commands find the books by it
    with open(os.devnull, "wb") as nowhere:  # noqa: ASYNC230, PTH123 - the sink for the log of calls, once
        async with running(settings, call_log=nowhere) as gateway:
            yield gateway


async def _traffic(gateway: Gateway) -> str:
    """Make the calls, print a line for each; returns the message of the first refusal."""
    click.echo(_line("team", "model", "status", "in", "out", "cost $", "time ms", "first ms", "usage by"))
    refusal = ""
    async with aiohttp.ClientSession() as session:
        for sample in _samples():
            call_id, answer = await _call(session, gateway, sample)
            record = await _record(session, gateway, call_id)
            usage = record["usage"]
            read = sum(usage.get(unit, 0) for unit in ("input", "cached_input"))
            written = sum(usage.get(unit, 0) for unit in ("output", "reasoning"))
            first = f"{record['ttft_ms']:.0f}" if record["ttft_ms"] is not None else "-"
            status = click.style(str(record["status"]), fg="green" if record["status"] == 200 else "red")
            click.echo(
                _line(
                    sample.team, sample.body["model"], status, str(read), str(written), format_usd(record["cost_nanousd"]),
                    f"{record['latency_ms']:.0f}", first, record["usage_source"] or record["error_type"],
                    extra=len(status) - 3,
                )
            )  # fmt: skip
            if record["status"] == 429 and not refusal:
                refusal = answer["error"]["message"]
    return refusal


def _line(*cells: str, extra: int = 0) -> str:
    team, model, status, read, written, cost, took, first, source = cells
    return f"{team:<9} {model:<23} {status:<{6 + extra}} {read:>5} {written:>5} {cost:>11} {took:>8} {first:>9}  {source}".rstrip()


async def _call(session: aiohttp.ClientSession, gateway: Gateway, sample: Sample) -> tuple[str, Any]:
    headers = {"x-tollgate-team": sample.team, "authorization": "Bearer none-needed", "x-simulate": sample.wish}
    async with session.post(gateway.front_url + sample.path, json=sample.body, headers=headers) as response:
        raw = await response.read()
        is_json = response.content_type == "application/json"
        return response.headers["x-tollgate-call-id"], await response.json() if is_json and raw else None


async def _record(session: aiohttp.ClientSession, gateway: Gateway, call_id: str) -> Any:
    """The call as the books have it; a stream's cost is settled a moment after its end."""
    async with asyncio.timeout(WAIT_FOR_RECORD_S):
        while True:
            async with session.get(f"{gateway.admin_url}/api/v1/calls/{call_id}") as response:
                if response.status == 200:
                    record = await response.json()
                    if record["state"] == "finished":
                        return record
            await asyncio.sleep(0.01)


async def _show_budgets(gateway: Gateway) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{gateway.admin_url}/api/v1/budgets") as response:
        budgets = (await response.json())["budgets"]
    click.echo("\nBudgets")
    for budget in sorted(budgets, key=lambda each: str(each["scope"])):
        used = min(20, round(20 * budget["spent_nanousd"] / budget["limit_nanousd"]))
        bar = "#" * used + "." * (20 - used)
        name = f"{budget['scope']}/{budget['window']}"
        click.echo(f"  {name:<20} [{bar}]  ${budget['spent_usd']} of ${budget['limit_usd']}")


def _show_refusal(message: str) -> None:
    if message:
        click.echo(f"\nThe refused calls got a 429 that says:\n  {message}")


def _show_next(gateway: Gateway, config: Path) -> None:
    front, admin = gateway.front_url, gateway.admin_url
    click.echo(
        f"""
Try it yourself, in another terminal
  live page   {admin}/
  metrics     {admin}/metrics
  at a glance tollgate status --url {admin}
  spend       tollgate report --by team --config {config}
  a call      curl -i {front}/v1/chat/completions -H 'x-tollgate-team: me' -d '{{"model":"gpt-4o-mini","messages":[{{"role":"user","content":"hi"}}]}}'
  any app     export OPENAI_BASE_URL={front}/v1 OPENAI_API_KEY=none
              export ANTHROPIC_BASE_URL={front}/anthropic ANTHROPIC_API_KEY=none
              export GOOGLE_GEMINI_BASE_URL={front}/gemini GEMINI_API_KEY=none
  for real    tollgate serve"""
    )


async def _until_told() -> None:
    click.echo("\nServing until Ctrl-C.")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
