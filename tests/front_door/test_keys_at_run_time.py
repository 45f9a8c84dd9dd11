"""Gateway keys that operators make and revoke while gateways run: in effect everywhere within a second, whatever becomes of the store."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.admission.keys import FORM, hash_of
from gateway.cli import main
from tests.harness.gateways import GatewayProcess, config_for
from tests.harness.messages import request, response
from tests.harness.raw_client import ask, connected
from tests.harness.redis_servers import Server, redis_binary
from tests.harness.replicas import call, done, processes, say, until_status, with_key
from tests.harness.scripted import ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

OLD = "tg-" + "OfConfig" * 4
OK = response(
    200,
    ("Content-Type", "application/json"),
    body=b'{"model":"gpt-4o-mini","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":5}}',
)


@pytest.fixture
def store(either_store: Any) -> tuple[dict[str, Any], Any]:
    """(block of the config, the server if there is one)."""
    block, server = either_store
    return block | ({"timeout": "2s"} if server is not None else {}), server


def blocks(store: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"auth": {"mode": "keys"}, "up": {"api_key": "sk-own"}, "store": store} | more


async def tollgate(config: Path, *arguments: str) -> Result:
    """A command, in a thread: gateways go on."""
    return await asyncio.to_thread(CliRunner().invoke, main, [*arguments, "--config", str(config)])


async def is_listening(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def test_a_key_is_made_replaced_and_revoked_for_all_replicas(
    upstream: ScriptedUpstream, tmp_path: Path, store: Any
) -> None:
    """Made at one gateway, good at the other; both of a rotation are good for a while; revoked, it is refused within a second on
    a connection that stands open, with its name and since when.
    """
    upstream.answer = [OK]
    async with processes(tmp_path, upstream, 2, **blocks(store[0])) as (one, two):
        assert (await call(two, OLD)).status == 401
        made = await done(one, "POST", "/api/v1/keys", {"name": "ann", "team": "t", "expires": "90d", "reason": "new"})
        assert FORM.fullmatch(made["key"].encode())
        await until_status(two, made["key"], 200)
        assert (await say(one, "POST", "/api/v1/keys", {"name": "ann"}))[0] == 409

        new = await done(two, "POST", f"/api/v1/keys/{made['id']}/rotate", {"overlap": "1h"})
        assert (new["replaces"], new["team"], new["name"]) == (made["id"], "t", "ann")
        assert new["expires"] >= made["expires"], "for as long as the old one was made for"
        await until_status(one, new["key"], 200)
        assert (await call(one, made["key"])).status == 200
        assert (await say(one, "POST", f"/api/v1/keys/{made['id']}/rotate", {}))[0] == 409

        took = []
        async with connected(two.front_port) as client:
            assert (await client.ask(with_key(made["key"]))).status == 200
            row = await done(one, "DELETE", f"/api/v1/keys/{made['id']}?reason=leaked")
            began = time.monotonic()
            while (answer := await client.ask(with_key(made["key"]))).status == 200:
                await asyncio.sleep(0.01)
            took.append(time.monotonic() - began)
        told = json.loads(answer.body.content)["error"]["message"]
        assert "'ann' was revoked at 2" in told
        assert (row["state"], row["revoked_by"]) == ("revoked", "loopback")
        assert (await call(two, new["key"])).status == 200
        assert min(took) < 1.0

        rows = (await done(two, "GET", "/api/v1/keys"))["keys"]
        assert [(each["id"], each["state"]) for each in rows] == [(made["id"], "revoked"), (new["id"], "active")]
        actions = [(each["action"], each["reason"]) for each in (await done(two, "GET", "/api/v1/changes"))["changes"]]
        assert actions == [("key.revoke", "leaked"), ("key.rotate", ""), ("key.rotate", ""), ("key.create", "new")]


async def test_a_leaked_key_of_the_config_is_revoked_at_once(
    upstream: ScriptedUpstream, tmp_path: Path, store: Any
) -> None:
    """Though its line is still there, and after a reload and a restart too; the answer says that the line should go."""
    upstream.answer = [OK]
    keys = [{"name": "old", "hash": hash_of(OLD), "team": "t"}]
    async with processes(tmp_path, upstream, 2, **blocks(store[0], keys=keys)) as (one, two):
        assert (await call(two, OLD)).status == 200
        (row,) = (await done(one, "GET", "/api/v1/keys"))["keys"]
        assert (row["source"], row["state"], row["version"]) == ("config", "active", None)
        gone = await done(one, "DELETE", f"/api/v1/keys/{row['id']}")
        assert "the config" in gone["note"]
        answer = await until_status(two, OLD, 401)
        assert "'old' was revoked" in json.loads(answer.body.content)["error"]["message"]
        if store[1] is not None:
            store[1].say("FLUSHALL")
            async with asyncio.timeout(10):  # each heartbeat of both puts back what they know
                while b":1" not in store[1].say("EXISTS", "{tollgate}:entries"):
                    await asyncio.sleep(0.02)
            assert (await call(one, OLD)).status == (await call(two, OLD)).status == 401
        await two.kill()
        await two.start()
        assert (await call(two, OLD)).status == 401


async def test_the_command_line_needs_no_running_gateway(
    upstream: ScriptedUpstream, tmp_path: Path, store: Any
) -> None:
    """A key that is made before the first start is good from the first call on; one that is revoked so is refused."""
    upstream.answer = [OK]
    (tmp_path / "cli").mkdir()
    waiting = GatewayProcess(tmp_path / "cli", config_for(tmp_path / "cli", upstream, **blocks(store[0])))
    config = tmp_path / "cli" / "tollgate.yaml"
    result = await tollgate(config, "keys", "create", "--name", "ci", "--budget", "5/day", "--reason", "nightly")
    assert result.exit_code == 0, result.output
    key = result.output.splitlines()[0]
    try:
        await waiting.start()
        assert (await call(waiting, key)).status == 200
        budgets = (await done(waiting, "GET", "/api/v1/budgets"))["budgets"]
        assert [(each["scope"], each["limit_usd"], each["source"]) for each in budgets] == [
            ("key:ci", "5.00", "runtime")
        ]
        rotated = json.loads((await tollgate(config, "keys", "rotate", "ci", "--overlap", "0s", "--json")).output)
        await until_status(waiting, key, 401)
        await until_status(waiting, rotated["key"], 200)
        revoked = await tollgate(config, "keys", "revoke", rotated["id"])
        assert revoked.exit_code == 0, revoked.output
        await until_status(waiting, rotated["key"], 401)
    finally:
        await waiting.kill()
    listed = json.loads((await tollgate(config, "keys", "list", "--json")).output)["keys"]
    assert {each["state"] for each in listed} == {"expired", "revoked"}
    lines = json.loads((await tollgate(config, "changes", "--json")).output)["changes"]
    assert {each["by"].partition("@")[0] for each in lines} == {lines[0]["by"].partition("@")[0]}
    assert lines[0]["by"].startswith("cli:")
    assert key not in json.dumps(lines) and hash_of(key) not in json.dumps(lines)  # noqa: PT018
    assert (await tollgate(config, "keys", "revoke", "nobody")).exit_code == 1


async def test_a_gateway_without_its_store_refuses_keys_that_it_does_not_know(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """For the moment: as soon as the store answers, its keys are good. The config's are all the time."""
    binary = redis_binary()
    if binary is None:
        pytest.skip("there is no Redis server on this machine")
    upstream.answer = [OK]
    server = Server(binary)
    store = {"url": server.tcp_url, "timeout": "300ms", "journal": str(tmp_path / "journal"), "on_outage": "open"}
    keys = [{"name": "old", "hash": hash_of(OLD)}]
    try:
        (tmp_path / "a").mkdir()
        gateway = GatewayProcess(tmp_path / "a", config_for(tmp_path / "a", upstream, **blocks(store, keys=keys)))
        config = tmp_path / "a" / "tollgate.yaml"
        key = (await tollgate(config, "keys", "create", "--name", "late")).output.splitlines()[0]
        server.freeze()
        starting = asyncio.create_task(gateway.start())
        async with asyncio.timeout(20):  # it is not ready, but it serves
            while not await is_listening(gateway.front_port):
                await asyncio.sleep(0.02)
        assert (await call(gateway, OLD)).status == 200
        answer = await call(gateway, key)
        assert answer.status == 503
        assert json.loads(answer.body.content)["error"]["code"] == "store_unavailable"
        assert gateway.log.count("what operators decide cannot be read") == 1
        server.thaw()
        await until_status(gateway, key, 200)
        await starting
        assert (await call(gateway, "tg-" + "Unknown1" * 4)).status == 401
    finally:
        await gateway.kill()
        server.thaw()
        server.close()


async def test_what_is_no_key_and_no_annotation_is_told_field_by_field(
    upstream: ScriptedUpstream, tmp_path: Path, store: Any
) -> None:
    """And changes nothing: a name that means all keys would limit them all, and what is too much for an entry is nobody's bug."""
    late, long = "9999-12-31T23:59:59-12:00", [f"{number:04}" * 1000 for number in range(20)]
    async with processes(tmp_path, upstream, 1, **blocks(store[0])) as (one,):
        for path, body, fields in (
            ("keys", {"name": "*", "budget": {"limit_usd": 1}}, {"budget"}),
            ("keys", {"name": "a+team:b", "budget": {"limit_usd": 1}}, {"budget"}),
            ("keys", {"name": "a", "models": long}, {""}),
            ("keys", {"name": "a\u202eb"}, {"name"}),
            ("keys", {"name": "a", "expires": late}, {"expires"}),
            ("annotations", {"text": "a", "at": late}, {"at"}),
            ("annotations", {"text": "a", "until": "9999-12-31"}, {"until"}),
        ):
            status, told = await say(one, "POST", f"/api/v1/{path}", body)
            assert (status, {each["field"] for each in told["error"]["problems"]}) == (422, fields)
            assert "is a key" not in str(told)
        assert (await done(one, "GET", "/api/v1/changes"))["changes"] == []


async def test_the_text_of_a_key_is_in_one_answer_and_nowhere_else(
    upstream: ScriptedUpstream, tmp_path: Path, store: Any
) -> None:
    """Not in lists, the log of changes, errors, records, metrics, the process' own log, or the bytes of the store, though an operator has
    written it into a reason; of its hash, operators see twelve digits.
    """
    upstream.answer = [OK]
    async with processes(tmp_path, upstream, 2, **blocks(store[0])) as gateways:
        one, two = gateways
        made = await done(one, "POST", "/api/v1/keys", {"name": "ann", "budget": {"limit_usd": 1}})
        new = await done(one, "POST", f"/api/v1/keys/{made['id']}/rotate", {"reason": f"{made['key']} is old"})
        keys = (made["key"], new["key"])
        told = []
        for key in keys:
            await until_status(two, key, 200)
            status, found = await say(one, "POST", "/api/v1/keys", {"name": key, "reason": key})
            assert status == 422
            told.append(found)
        await done(one, "DELETE", f"/api/v1/keys/{made['id']}", {"reason": f"leaked: {made['key']}"})
        told.append((await until_status(two, made["key"], 401)).body.content.decode())
        await done(one, "POST", "/api/v1/annotations", {"text": f"revoked {made['key']}", "tags": [made["key"]]})
        for path in ("keys", "changes", "annotations", "budgets", "calls?limit=500", "config", "keys?search=tg-"):
            told.append(await done(two, "GET", f"/api/v1/{path}"))
        told.append(await done(two, "GET", "/grafana/annotations"))
        config = tmp_path / "0" / "tollgate.yaml"
        for words in (("keys", "list"), ("keys", "list", "--json"), ("changes",), ("changes", "--json")):
            told.append((await tollgate(config, *words)).output)
        seen = json.dumps(told)
        assert "tg-***" in seen
        assert not any(key in seen or hash_of(key)[7:] in seen for key in keys)
        assert all(hash_of(key)[7:19] in seen for key in keys)
        metrics = await asyncio.gather(
            *(ask(each.admin_port, request("GET", "/metrics", host="localhost")) for each in gateways)
        )
        kept = b"".join(each.body.content for each in metrics) + "".join(each.log for each in gateways).encode()
        if store[1] is not None:
            store[1].say("CONFIG", "SET", "rdbcompression", "no")
            store[1].say("SAVE")
            kept += (store[1].folder / "dump.rdb").read_bytes()
    kept += b"".join(each.read_bytes() for each in tmp_path.rglob("*") if each.is_file())
    assert hash_of(made["key"]).encode() in kept, "it was looked for where it would be"
    assert not any(key.encode() in kept for key in keys)


async def test_of_the_hash_of_a_key_twelve_digits_are_shown(
    upstream: ScriptedUpstream, tmp_path: Path, store: Any
) -> None:
    """In the config that the admin API and the command line show as in the lists of keys, and in the log, which says of a key of the config
    what it was before it was revoked.
    """
    whole = hash_of(OLD).removeprefix("sha256:")
    keys = [{"name": "old", "hash": hash_of(OLD), "team": "t"}]
    async with processes(tmp_path, upstream, 1, **blocks(store[0], keys=keys)) as (one,):
        config = tmp_path / "0" / "tollgate.yaml"
        shown = await done(one, "GET", "/api/v1/config")
        listed = await done(one, "GET", "/api/v1/keys")
        checked = json.loads((await tollgate(config, "check", "--json")).output)
        for each in (shown["config"]["keys"], checked["config"]["keys"], listed["keys"]):
            assert [row["hash"] for row in each] == [whole[:12]]
        await done(one, "DELETE", f"/api/v1/keys/{listed['keys'][0]['id']}")
        changes = await done(one, "GET", "/api/v1/changes")
        before = changes["changes"][0]["before"]
        assert (before["name"], before["team"], before["hash"]) == ("old", "t", whole[:12])
        assert "revoked_at" not in before
        assert whole[:13] not in json.dumps([shown, listed, checked, changes])
