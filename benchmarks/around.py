"""What the systems under test talk to: the provider, over TLS as well, a receiver of traces, Redis. All of it on the other core."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from systems import AROUND, HERE, free_port, pinned


@dataclass(frozen=True)
class Around:
    """Ports on the loopback; 0 and None where the machine has not what it takes (openssl, redis-server)."""

    folder: Path
    provider: int
    collector: int
    secure: int = 0
    certificate: Path | None = None
    redis: int = 0


def self_signed(folder: Path) -> Path | None:
    """A certificate for the loopback that is its own authority, with its key beside it (``.key``)."""
    if not shutil.which("openssl"):
        return None
    file = folder / "loopback.pem"
    asked = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    use = ["-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    files = ["-out", str(file), "-keyout", str(file.with_suffix(".key"))]
    subprocess.run(["openssl", *asked, *name, *use, *files], check=True, capture_output=True)
    return file


def redis_command(port: int, folder: Path) -> list[str] | None:
    """None where there is no server, or no client that the gateway could use."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if not program or not importlib.util.find_spec("redis"):
        return None
    return [
        program,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--dir",
        str(folder),
        "--save",
        "",
        "--appendonly",
        "no",
    ]


def wait_for(port: int) -> None:
    give_up = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if time.monotonic() > give_up:
            raise SystemExit(f"nothing listens on port {port}")
        time.sleep(0.02)


@contextlib.contextmanager
def surroundings(folder: Path, cores: Sequence[int] = (AROUND,)) -> Iterator[Around]:
    """Started on these cores, and ended with the block."""
    certificate = self_signed(folder)
    found = Around(
        folder, free_port(), free_port(), free_port() if certificate else 0, certificate, free_port()
    )  # fmt: skip
    tls = [str(found.secure), str(certificate), str(certificate.with_suffix(".key"))] if certificate else []
    commands = {
        found.provider: [sys.executable, str(HERE / "upstream.py"), str(found.provider), *tls],
        found.collector: [sys.executable, str(HERE / "collector.py"), str(found.collector)],
    }
    redis = redis_command(found.redis, folder)
    if redis:
        commands[found.redis] = redis
    else:
        found = Around(folder, found.provider, found.collector, found.secure, certificate)
    running = [subprocess.Popen(pinned(cores, command), stdout=subprocess.DEVNULL) for command in commands.values()]
    try:
        for port in commands:
            wait_for(port)
        yield found
    finally:
        for process in running:
            process.kill()
            process.wait()
