"""Every way to reach a Redis: over TLS, as a user with few rights, through Sentinel when the primary dies, in a cluster."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from gateway.accounts import UNITS, Hold, Use
from gateway.errors import Failure
from gateway.tallies import BUCKET_S, Tally, bucket_of
from tests.fault.test_redis_faults import CENT, DAY, balance, claim, has_balance, is_paid, opened, settlement, until
from tests.harness.redis_servers import Server, free_port, make_store, redis_binary

RIGHTS = (
    "~{books}:* -@all +evalsha +eval +script|load +info +ping +get +set +hget +hmget +hgetall +hlen +hscan"
    " +hset +hsetnx +hdel +hexists +hincrby +zadd +zrange +zrem +zrangebyscore +zremrangebyscore +zrevrange +zrevrank +zscore"
    " +zcard +scan +expireat +hkeys +time"
)
"""What the docs tell operators to grant."""


@pytest.fixture
def binary() -> str:
    found = redis_binary()
    if found is None:
        pytest.skip("there is no Redis server on this machine")
    return found


PATIENT_S = 5.0
"""What is tried here is not how fast a server answers on a busy machine."""


async def works(store) -> None:
    """A call that budgets and limits apply to, settled; the books agree; a look at them; how well a target is met."""
    async with opened(store):
        uses = tuple(Use("team:search", unit, 1, 9, "all") for unit in UNITS)
        assert isinstance(await store.reserve("a", [claim()], uses=uses), Hold)
        await store.settle(replace(settlement("a", CENT // 2), uses=uses, tokens=7))
        assert await balance(store) == (CENT // 2, 0)
        assert [record["call_id"] for record in await store.recent(5)] == ["a"]
        met = [Tally(bucket_of(time.time()), "fast", 2, 1)]
        await store.tally(met)
        assert await store.tallies(met[0].bucket, met[0].bucket + BUCKET_S) == met
        assert await store.check() == 0


async def test_over_tls(binary, tmp_path):
    """With the certificate of an authority of one's own; without it nothing is said."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    port = free_port()
    server = Server(
        binary, "--tls-port", str(port), "--tls-cert-file", str(tmp_path / "cert.pem"), "--tls-key-file",
        str(tmp_path / "key.pem"), "--tls-ca-cert-file", str(tmp_path / "ca.pem"), "--tls-auth-clients", "no",
    )  # fmt: skip
    try:
        url = f"rediss://127.0.0.1:{port}/0"
        await works(make_store(server, tmp_path, "one", url=url, ca_file=str(tmp_path / "ca.pem"), timeout_s=PATIENT_S))
        with pytest.raises(Failure):
            await make_store(server, tmp_path, "two", url=url).open()
    finally:
        server.close()


async def test_as_a_user_with_few_rights(binary, tmp_path):
    """What the docs grant is enough; a wrong password is said to be one."""
    server = Server(binary)
    try:
        assert server.say("ACL", "SETUSER", "tollgate", "on", ">hush", *RIGHTS.split()).startswith(b"+OK")
        await works(make_store(server, tmp_path, "one", username="tollgate", password="hush", timeout_s=PATIENT_S))
        with pytest.raises(Failure, match="user or password"):
            await make_store(server, tmp_path, "two", username="tollgate", password="wrong").open()
    finally:
        server.close()


async def test_through_sentinel_when_the_primary_dies(binary, tmp_path):
    """The replica that takes over has another life: what it missed is restored, and nothing is admitted before that."""
    primary = Server(binary)
    replica = Server(binary, "--replicaof", "127.0.0.1", str(primary.port))
    port = free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor books 127.0.0.1 {primary.port} 1\n"
        "sentinel down-after-milliseconds books 300\nsentinel failover-timeout books 2000\n"
    )
    sentinel = subprocess.Popen([binary, str(config), "--sentinel"], stdout=subprocess.DEVNULL)
    try:
        await asyncio.sleep(2.5)  # sentinel hears of the replica
        store = make_store(primary, tmp_path, "one", url=f"redis+sentinel://127.0.0.1:{port}/books/0")
        async with opened(store):
            for number in range(20):
                await store.reserve(f"c{number}", [claim()])
                if number % 2:
                    await store.settle(settlement(f"c{number}", CENT // 2))
            primary.kill()
            await store.settle(settlement("c0", CENT // 2))
            await until(lambda: is_paid(store), 60)
            await until(lambda: has_balance(store, 11 * CENT // 2))
            assert await balance(store, DAY) == (11 * CENT // 2, 9 * CENT)
            assert replica.say("ROLE").find(b"master") > 0
            assert await store.check() == 0
    finally:
        sentinel.kill()
        sentinel.wait()
        primary.close()
        replica.close()


@pytest.fixture
def cluster(binary) -> Iterator[list[Server]]:
    """Two primaries, half of the slots each."""
    options = ("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-port")
    buses = [str(free_port()) for _ in range(2)]
    nodes = [Server(binary, *options, bus) for bus in buses]
    nodes[0].say("CLUSTER", "ADDSLOTSRANGE", "0", "8191")
    nodes[1].say("CLUSTER", "ADDSLOTSRANGE", "8192", "16383")
    nodes[0].say("CLUSTER", "MEET", "127.0.0.1", str(nodes[1].port), buses[1])
    yield nodes
    for node in nodes:
        node.close()


async def test_in_a_cluster(cluster, tmp_path):
    """One hash tag holds all that belongs together, whichever node it falls to."""
    async with asyncio.timeout(20):
        while not all(b"cluster_state:ok" in node.say("CLUSTER", "INFO") for node in cluster):
            await asyncio.sleep(0.1)
    url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in cluster)
    for prefix in ("books", "a", "other"):
        folder = Path(tmp_path / prefix)
        folder.mkdir()
        await works(make_store(cluster[0], folder, "one", url=url, prefix=prefix, timeout_s=2.0))
