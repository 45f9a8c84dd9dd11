"""Arize Phoenix and a gateway, in a network of their own: ``unshare -rn python -m tests.harness.phoenix COMMAND FOLDER``.

Phoenix's gRPC port listens on all addresses and cannot be told otherwise, so that it is only run where there is no other machine. Prints
what it read of the calls that were made, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp

from gateway.simulator import Simulator
from tests.harness.books import CHAT, MINI, post, record_after
from tests.harness.gateways import config_for, in_process
from tests.harness.raw_client import ask

URL = "http://127.0.0.1:6006"
ENDPOINTS = {"http/protobuf": URL, "grpc": "http://127.0.0.1:4317"}
SPANS = "{ projects { edges { node { spans(first: 100) { edges { node { name tokenCountTotal attributes } } } } } } }"
START_S = 180


async def main(command: str, folder: Path) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    place = {"PHOENIX_WORKING_DIR": str(folder), "PHOENIX_HOST": "127.0.0.1", "PHOENIX_TELEMETRY_ENABLED": "false"}
    with (folder / "phoenix.log").open("wb") as log:
        process = subprocess.Popen([command, "serve"], env={**os.environ, **place}, stdout=log, stderr=log)
    try:
        async with aiohttp.ClientSession() as session:
            async with asyncio.timeout(START_S):
                while not await is_up(session):
                    await asyncio.sleep(0.3)
            records = [await one_call(folder / str(number), *each) for number, each in enumerate(ENDPOINTS.items())]
            async with asyncio.timeout(30):
                while len(found := await spans(session)) < 8:
                    await asyncio.sleep(0.3)
        print(json.dumps({"records": records, "spans": found}))
    finally:
        process.terminate()
        process.wait()


async def is_up(session: aiohttp.ClientSession) -> bool:
    try:
        async with session.get(f"{URL}/healthz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def one_call(folder: Path, protocol: str, endpoint: str) -> dict[str, Any]:
    folder.mkdir()
    tracing = {"enabled": True, "endpoint": endpoint, "protocol": protocol, "capture_content": True}
    async with Simulator() as provider:
        config = config_for(
            folder, provider.url, observability={"tracing": tracing, "logging": {"sample_rate": 0}}
        )  # the log goes where the answer goes
        async with in_process(folder, config) as gateway:
            return await record_after(
                gateway,
                await ask(gateway.front_port, post(CHAT, MINI, "words=30;cached=4", ("x-tollgate-user", protocol))),
            )


async def spans(session: aiohttp.ClientSession) -> list[dict[str, Any]]:
    async with session.post(f"{URL}/graphql", json={"query": SPANS}) as answer:
        told = await answer.json()
    found = [
        edge["node"] for project in told["data"]["projects"]["edges"] for edge in project["node"]["spans"]["edges"]
    ]
    return [{**each, "attributes": json.loads(each["attributes"])} for each in found]


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
