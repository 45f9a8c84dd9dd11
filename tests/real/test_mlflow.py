"""A real MLflow server: calls become traces that can be read back through its own API, with tokens, cost, session and user."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from gateway.simulator import Simulator
from tests.harness.books import CHAT, MESSAGES, MINI, TOLD, post, record_after
from tests.harness.gateways import config_for, free_port, in_process
from tests.harness.raw_client import ask

ROOT = Path(__file__).resolve().parents[2]
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
START_S = 180

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]


def command() -> str:
    """MLflow lives in an environment of its own (600 MB): ``MLFLOW``, ``.mlflow`` beside the code, or the path."""
    beside = ROOT / ".mlflow" / "bin" / "mlflow"
    found = os.environ.get("MLFLOW") or (str(beside) if beside.exists() else shutil.which("mlflow"))
    return found or pytest.skip("there is no MLflow (.ci/run installs one)")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mlflow(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A server with an empty store."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(command(), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder)),
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(START_S), aiohttp.ClientSession() as session:
            while not await is_up(session, url):
                assert process.returncode is None, (folder / "log").read_text()[-2000:]
                await asyncio.sleep(0.2)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        await process.wait()


async def is_up(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/health") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def traces(url: str, experiment: str, count: int) -> list[dict[str, Any]]:
    """The traces of an experiment, as soon as there are so many."""
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        while True:
            async with session.get(
                f"{url}/api/2.0/mlflow/experiments/get-by-name", params={"experiment_name": experiment}
            ) as answer:
                found = await answer.json()
            if "experiment" in found:
                place = {"experiment_id": found["experiment"]["experiment_id"]}
                asked = {"locations": [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": place}], "max_results": 100}
                async with session.post(f"{url}/api/3.0/mlflow/traces/search", json=asked) as answer:
                    all_traces: list[dict[str, Any]] = (await answer.json()).get("traces", [])
                if len(all_traces) >= count:
                    return all_traces
            await asyncio.sleep(0.2)


@pytest.mark.asyncio(loop_scope="module")
async def test_calls_are_traces_with_tokens_cost_session_and_user(mlflow, tmp_path):
    """To the digit what the record says; two calls of one run are one session; an error is an error; nothing stays open."""
    config_blocks = {"mlflow": {"enabled": True, "tracking_uri": mlflow, "experiment": "prod", "capture_content": True}}
    who = (("x-tollgate-user", "ann"), ("x-correlation-id", "run-1"))
    body = MINI | {"messages": [{"role": "user", "content": "The capital of France, please."}]}
    async with Simulator() as provider:
        config = config_for(tmp_path, provider.url, observability=config_blocks)
        async with in_process(tmp_path, config) as gateway:
            answers = [
                await ask(gateway.front_port, post(CHAT, body, "words=30;cached=4;reasoning=7", *who, ("traceparent", PARENT))),
                await ask(gateway.front_port, post(CHAT, body | TOLD, "words=10", *who)),
                await ask(gateway.front_port, post(CHAT, body, "status=500")),
                await ask(
                    gateway.front_port,
                    post(MESSAGES, {**body, "model": "claude-haiku-4-5", "max_tokens": 9}, "cached=5"),
                ),
            ]  # fmt: skip
            records = [await record_after(gateway, answer) for answer in answers]
            found = await traces(mlflow, "prod", 4)
    by_id = {each["trace_id"].removeprefix("tr-"): each for each in found}
    told = [by_id[record["call_id"].replace("-", "")] for record in records]
    assert [each["state"] for each in told] == ["OK", "OK", "ERROR", "OK"]
    for trace, record in zip(told, records, strict=True):
        metadata = trace["trace_metadata"]
        if record["status"] != 200:
            assert "mlflow.trace.cost" not in metadata
            continue
        assert round(json.loads(metadata["mlflow.trace.cost"])["total_cost"] * 10**9) == record["cost_nanousd"] > 0
        tokens, usage = json.loads(metadata["mlflow.trace.tokenUsage"]), record["usage"]
        read = usage.get("input", 0) + usage.get("cached_input", 0)
        assert (tokens["input_tokens"], tokens["output_tokens"]) == (read, usage["output"] + usage.get("reasoning", 0))
        assert tokens.get("cache_read_input_tokens", 0) == usage.get("cached_input", 0)
        assert "capital of France" in trace["request_preview"]
        assert "assistant" in trace["response_preview"]
    assert {each["trace_metadata"].get("mlflow.trace.session") for each in told[:2]} == {"run-1"}
    assert {each["trace_metadata"].get("mlflow.trace.user") for each in told[:2]} == {"ann"}


@pytest.mark.asyncio(loop_scope="module")
async def test_nothing_that_was_said_is_there_by_default(mlflow, tmp_path):
    """The experiment is made once; tokens and cost are there all the same."""
    config_blocks = {"mlflow": {"enabled": True, "tracking_uri": mlflow, "experiment": "quiet"}}
    async with Simulator() as provider:
        config = config_for(tmp_path, provider.url, observability=config_blocks)
        async with in_process(tmp_path, config) as gateway:
            await ask(gateway.front_port, post(CHAT, MINI, "words=30"))
            (trace,) = await traces(mlflow, "quiet", 1)
    assert "Say what a call costs" not in json.dumps(trace)
    assert trace["trace_metadata"]["mlflow.trace.cost"]
