"""Prometheus itself: it scrapes a gateway, and knows which trace is behind a bucket."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.harness.books import CHAT, MINI, post, record_after
from tests.harness.gateways import config_for, free_port, in_process
from tests.harness.messages import response
from tests.harness.raw_client import ask
from tests.harness.scripted import ScriptedUpstream

pytestmark = pytest.mark.real

TRACE = "0af7651916cd43dd8448eb211c80319c"
SCRAPE = """
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: tollgate
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


@asynccontextmanager
async def prometheus(folder: Path, scraped_port: int, *more: str) -> AsyncIterator[str]:
    """A server of its own on a free port; yields its address."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed")
    config = folder / "prometheus.yml"
    config.write_text(SCRAPE.format(port=scraped_port))
    address = f"127.0.0.1:{free_port()}"
    process = await asyncio.create_subprocess_exec(
        *(program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"),
        *(f"--web.listen-address={address}", "--log.level=error", *more),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        await process.wait()


async def asked(url: str, path: str, **parameters: str) -> Any:
    """What it answers; nothing while it is not there yet."""
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/api/v1/{path}", params=parameters) as found:
            return (await found.json())["data"] if found.status == 200 else None
    except aiohttp.ClientConnectionError:
        return None


@pytest.mark.parametrize("exemplars", [True, False], ids=["OpenMetrics", "plain"])
async def test_prometheus_scrapes_a_gateway(exemplars: bool, tmp_path: Path) -> None:
    """Every sample arrives, packed, in either form; with exemplar storage on, the trace of a call stands at its bucket."""
    feature = ["--enable-feature=exemplar-storage"] if exemplars else []
    async with ScriptedUpstream() as upstream, in_process(tmp_path, config_for(tmp_path, upstream)) as gateway:
        body = {"object": "chat.completion", "model": "gpt-4o-mini", "choices": [],
                "usage": {"prompt_tokens": 26, "completion_tokens": 4, "total_tokens": 30}}  # fmt: skip
        upstream.answer = [response(200, ("Content-Type", "application/json"), body=json.dumps(body).encode())]
        fields = (
            ("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"),
            ("x-tollgate-team", 'odd "team" \\ 日本'),
        )
        record = await record_after(gateway, await ask(gateway.front_port, post(CHAT, MINI, "", *fields)))
        async with prometheus(tmp_path, gateway.admin_port, *feature) as url:
            async with asyncio.timeout(60):
                while not (found := await asked(url, "query", query="llm_requests_total")) or not found["result"]:
                    await asyncio.sleep(0.2)
                while not (up := await asked(url, "query", query="up"))["result"]:
                    await asyncio.sleep(0.2)
            assert up["result"][0]["value"][1] == "1"
            [sample] = found["result"]
            assert (sample["metric"]["team"], sample["value"][1]) == ('odd "team" \\ 日本', "1")
            quantile = await asked(url, "query", query="histogram_quantile(1, llm_request_duration_seconds_bucket)")
            assert float(quantile["result"][0]["value"][1]) >= record["latency_ms"] / 1000
            told = await asked(url, "query_exemplars", query="llm_request_duration_seconds_bucket",
                               start="0", end="9999999999")  # fmt: skip
            traces = {each["labels"]["trace_id"] for series in told or [] for each in series["exemplars"]}
            assert traces == ({TRACE} if exemplars else set())
