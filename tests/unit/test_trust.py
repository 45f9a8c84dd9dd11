"""The list of certificates: not read by a start, and asked by every request of our own."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from gateway import trust
from gateway.observe.alerts import Alerts
from gateway.observe.delivery import Webhook
from gateway.observe.events import KINDS, Event
from gateway.observe.exporter import Away
from gateway.observe.mlflow import Mlflow
from gateway.observe.otel_env import Receiver
from gateway.observe.transports import Post
from tests.harness.gateways import ROOT

AS_SERVE_IMPORTS = """
import os, sys
from click.testing import CliRunner
from gateway.cli import main
assert CliRunner().invoke(main, ["serve", "--config", "there-is-none.yaml"]).exit_code == 2
print(sys.modules["aiohttp.connector"]._SSL_CONTEXT_VERIFIED.cert_store_stats()["x509"], os.environ.get("SSL_CERT_FILE"))
"""
EVENT = Event("store", "store/1", "firing", "critical", "it is down", ())


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[trustme.CA]:
    """Nobody but this one is in the system's list. aiohttp's own contexts were made before, and do not know it."""
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "list.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "list.pem"))
    trust._system.cache_clear()
    yield made
    trust._system.cache_clear()


@pytest.fixture
async def receiver(authority: trustme.CA) -> AsyncIterator[tuple[str, list[str]]]:
    """Takes everything, over TLS: its address, and the paths that were asked."""
    asked: list[str] = []

    async def take(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({"experiment": {"experiment_id": "7"}})

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    yield f"https://127.0.0.1:{runner.addresses[0][1]}", asked
    await runner.cleanup()


@pytest.mark.parametrize("named", [True, False])
def test_a_start_reads_no_list(tmp_path: Path, authority: trustme.CA, named: bool) -> None:
    """Neither the variable's nor OpenSSL's own; and the variable says afterwards what it said before."""
    listed = {"SSL_CERT_FILE": str(tmp_path / "list.pem")} if named else {}
    told = subprocess.run(
        [sys.executable, "-c", AS_SERVE_IMPORTS], cwd=tmp_path, env={"PYTHONPATH": str(ROOT), **listed}, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    assert told.stdout.split() == ["0", listed.get("SSL_CERT_FILE", "None")]


async def test_telemetry_trusts_who_is_in_the_list(receiver: tuple[str, list[str]]) -> None:
    """OTLP over HTTP."""
    url, asked = receiver
    post = Post(Receiver(f"{url}/v1/traces", "http/protobuf", 5, False, "", ()))
    await post.send(b"x")
    await post.close()
    assert asked == ["/v1/traces"]


async def test_mlflow_is_trusted_where_it_is_in_the_list(receiver: tuple[str, list[str]]) -> None:
    """Where its experiment is looked up, and where traces go."""
    url, asked = receiver
    mlflow = Mlflow(url, "production", "", "")
    await mlflow.send(b"x")
    await mlflow.close()
    assert asked == ["/api/2.0/mlflow/experiments/get-by-name", "/v1/traces"]


async def test_webhooks_trust_who_is_in_the_list(receiver: tuple[str, list[str]]) -> None:
    """Of every kind: the address is the operator's."""
    url, asked = receiver
    hook = Webhook(f"{url}/hook", "generic", frozenset(KINDS), "hush", repeat_s=3600, timeout_s=5)
    alerts = Alerts([hook], lambda kind, outcome: None)
    alerts.start()
    alerts.tell(EVENT)
    async with asyncio.timeout(10):
        while not asked:
            await asyncio.sleep(0.005)
    await alerts.stop()
    assert asked == ["/hook"]


async def test_nobody_else_is_trusted(receiver: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver whose authority is not in the list is told nothing."""
    url, asked = receiver
    monkeypatch.delenv("SSL_CERT_FILE")
    post = Post(Receiver(f"{url}/v1/traces", "http/protobuf", 5, False, "", ()))
    with pytest.raises(Away):
        await post.send(b"x")
    await post.close()
    assert asked == []
