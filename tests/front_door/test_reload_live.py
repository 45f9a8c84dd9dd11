"""A config that changes while calls run: they end as they began, new ones see all of the new one, a faulty file changes nothing."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.harness.gateways import GatewayProcess, record_of
from tests.harness.messages import chunked, request, response
from tests.harness.raw_client import ask, connected
from tests.harness.rows import CHAT
from tests.harness.scripted import ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

STREAM = response(200, ("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked"), body=None)
FIRST, SECOND = b'data: {"choices":[]}\n\n', b"data: [DONE]\n\n"
Spawn = Callable[..., Awaitable[GatewayProcess]]


async def ready(gateway: GatewayProcess) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"{gateway.admin_url}/health/ready") as answer:
        found: dict[str, Any] = await answer.json()
        return found


def rewrite(folder: Path, **blocks: Any) -> None:
    """Change the file as an editor does: a new one in the place of the old."""
    path = folder / "tollgate.yaml"
    config = yaml.safe_load(path.read_text())
    for name, block in blocks.items():
        config[name] = config.get(name, {}) | block if isinstance(block, dict) else block
    other = folder / "other.yaml"
    other.write_text(yaml.safe_dump(config))
    other.rename(path)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(15):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_a_running_stream_ends_under_the_config_it_began_with(
    upstream: ScriptedUpstream, spawn: Spawn, tmp_path: Path
) -> None:
    """Its upstream is taken out of the file in mid-stream: the stream goes on, a new call finds the new one."""
    gateway = await spawn()
    version = (await ready(gateway))["config_version"]
    go_on = asyncio.Event()
    upstream.answer = [STREAM, b"%x\r\n%b\r\n" % (len(FIRST), FIRST), go_on, chunked(SECOND)]
    async with connected(gateway.front_port) as client, ScriptedUpstream([response(200, body=b"the new one")]) as new:
        await client.send(request("POST", "/up/v1/chat/completions", body=CHAT))
        await client.see(FIRST)
        rewrite(tmp_path, upstreams={"up": {"base_url": new.url}})

        async def taken_over() -> bool:
            return (await ready(gateway))["config_version"] != version

        await until(taken_over)
        assert (await ask(gateway.front_port, request("GET", "/up/v1/models"))).body.content == b"the new one"
        go_on.set()
        answer = await client.answer("POST")
        assert answer.body.content == FIRST + SECOND
        assert answer.body.whole
        upstream.answer = [response(200, body=b"the old one")]
        assert (await client.ask(request("GET", "/v1/models"))).body.content == b"the old one"


async def test_a_faulty_file_changes_nothing_and_is_told(
    upstream: ScriptedUpstream, spawn: Spawn, tmp_path: Path
) -> None:
    """With file, line and key, as ``tollgate check`` says it; a repaired file is taken over."""
    gateway = await spawn()
    version = (await ready(gateway))["config_version"]
    upstream.answer = [response(200, body=b"served")]
    rewrite(tmp_path, metering={"unpriced": "perhaps"})

    async def told() -> bool:
        return "metering.unpriced: must be one of" in gateway.log

    await until(told)
    assert (await ready(gateway))["config_version"] == version
    assert (await ask(gateway.front_port, request("GET", "/v1/models"))).body.content == b"served"
    rewrite(tmp_path, metering={"unpriced": "refuse"})

    async def repaired() -> bool:
        return (await ready(gateway))["config_version"] != version

    await until(repaired)
    refused = await ask(gateway.front_port, request("POST", "/v1/chat/completions", body=b'{"model": "no-such-model"}'))
    assert (refused.status, b"model_unpriced" in refused.body.content) == (403, True)


async def test_what_only_a_restart_can_change_is_refused_whole(
    upstream: ScriptedUpstream, spawn: Spawn, tmp_path: Path
) -> None:
    """Nothing of such a file is taken over, the part that could be included."""
    gateway = await spawn()
    version = (await ready(gateway))["config_version"]
    rewrite(tmp_path, admin={"host": "::1"}, metering={"unpriced": "refuse"})

    async def told() -> bool:
        return "admin.host: a change of this needs a restart" in gateway.log

    await until(told)
    assert (await ready(gateway))["config_version"] == version


async def test_sighup_reads_again_what_the_file_names(upstream: ScriptedUpstream, spawn: Spawn, tmp_path: Path) -> None:
    """A secret that was rotated in its own file: the config itself is the same as before."""
    secret = tmp_path / "key"
    secret.write_text("sk-old\n")
    gateway = await spawn(up={"api_key_file": str(secret)})
    upstream.answer = [response(200, body=b"ok")]
    await ask(gateway.front_port, request("GET", "/v1/models"))
    secret.write_text("sk-new\n")
    gateway.signal(signal.SIGHUP)

    async def reloaded() -> bool:
        return "config reloaded" in gateway.log

    await until(reloaded)
    await ask(gateway.front_port, request("GET", "/v1/models"))
    keys = [seen.head.value(b"authorization") for seen in upstream.seen]
    assert keys == [b"Bearer sk-old", b"Bearer sk-new"]
    assert "sk-old" not in gateway.log
    assert "sk-new" not in gateway.log


async def test_no_call_suffers_while_the_config_changes_again_and_again(
    upstream: ScriptedUpstream, spawn: Spawn, tmp_path: Path
) -> None:
    """Four clients call without a pause through a dozen reloads, good and bad: each call is answered, no connection is
    dropped, and each record names the config that its call began with.
    """
    gateway = await spawn(up={"keepalive": "1s"})
    upstream.answer = [response(200, body=b"served")]
    ended = asyncio.Event()

    async def call_on() -> int:
        count = 0
        async with connected(gateway.front_port) as client:
            while not ended.is_set():
                answer = await client.ask(request("POST", "/v1/chat/completions", body=CHAT))
                assert (answer.status, answer.body.content) == (200, b"served")
                count += 1
                await asyncio.sleep(0.001)
        return count

    clients = [asyncio.create_task(call_on()) for _ in range(4)]
    versions = {(await ready(gateway))["config_version"]}
    for number in range(12):
        reloads = gateway.log.count("reloaded")
        rewrite(tmp_path, metering={"drain_max_mb": number + 1 if number % 3 else "broken"})
        gateway.signal(signal.SIGHUP)

        async def looked(before: int = reloads) -> bool:
            return gateway.log.count("reloaded") > before

        await until(looked)
        versions.add((await ready(gateway))["config_version"])
    ended.set()
    made = sum(await asyncio.gather(*clients))

    async def told() -> bool:
        return gateway.log.count('{"event":"call"') >= made

    await until(told)
    found = [json.loads(line) for line in gateway.log.splitlines() if line.startswith('{"event":"call"')]
    assert (len(versions), len(found)) == (9, made)
    assert {record["config_version"] for record in found} <= versions
    assert len({record["config_version"] for record in found}) > 1


async def test_a_limit_that_is_raised_lets_go_on_who_was_refused(
    upstream: ScriptedUpstream, spawn: Spawn, tmp_path: Path
) -> None:
    """What was spent stays spent, and what other calls hold stays held; only the limit is another one."""
    gateway = await spawn(budgets=[{"scope": "global", "limit_usd": "0.001"}])
    usage = b'{"model":"gpt-4o-mini","choices":[],"usage":{"prompt_tokens":5000,"completion_tokens":400,"total_tokens":5400}}'
    upstream.answer = [response(200, ("Content-Type", "application/json"), body=usage)]
    sent = request("POST", "/v1/chat/completions", body=CHAT.replace(b'"x":1e2', b'"max_tokens":50'))
    answer = await ask(gateway.front_port, sent)
    await record_of(gateway.admin_url, answer.head.value(b"x-tollgate-call-id"))
    assert (answer.status, (await ask(gateway.front_port, sent)).status) == (200, 429)
    rewrite(tmp_path, budgets=[{"scope": "global", "limit_usd": "0.01"}])

    async def passes() -> bool:
        return (await ask(gateway.front_port, sent)).status == 200

    await until(passes)
    async with aiohttp.ClientSession() as session, session.get(f"{gateway.admin_url}/api/v1/budgets") as told:
        [budget] = (await told.json())["budgets"]
    assert budget["limit_usd"] == "0.01"
    assert budget["spent_nanousd"] + budget["held_nanousd"] > 5000 * 150 + 400 * 600
