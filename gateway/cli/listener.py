"""Asks the admin listener of a running gateway. The token goes to that address and nowhere else: no redirect is followed, no proxy
asked, and it is never an argument that others could see in a list of processes.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from gateway.cli.output import UNREACHABLE, WRONG_USE, fail

if TYPE_CHECKING:
    from gateway.settings import Settings

TIMEOUT_S = 10.0
MOST_BYTES = 64 << 20
EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104 - what it means to ask one of them
WHICH = "--url names the admin listener (8081 as it comes), not the one that apps call."
TOKEN_VARIABLE = "TOLLGATE_ADMIN_TOKEN"  # noqa: S105 - a name


@dataclass(frozen=True, slots=True)
class Listener:
    """An address, and what opens it."""

    url: str
    token: str

    def ask(self, path: str) -> tuple[int, Any]:
        """Status and document. Whatever keeps an answer away ends the command."""
        parts = urlsplit(self.url)
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
        headers = {"Accept": "application/json", "Connection": "close"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            connection.request("GET", parts.path.rstrip("/") + path, headers=headers)
            response = connection.getresponse()
            status, text = response.status, response.read(MOST_BYTES)
        except (OSError, http.client.HTTPException, ssl.SSLError) as error:
            fail(
                f"{self.url} cannot be reached: {_why(error)}.",
                "Does the gateway run? tollgate serve starts one. --url names its admin listener (default: 127.0.0.1:8081).",
                UNREACHABLE,
            )
        finally:
            connection.close()
        if status in {401, 403, 429}:
            self._not_let_in(status, response.headers.get("Retry-After", "60"))
        try:
            return status, json.loads(text)
        except ValueError:
            fail(f"{self.url} is no admin listener: it answered {status}, and no JSON.", WHICH, UNREACHABLE)

    def _not_let_in(self, status: int, wait_s: str) -> NoReturn:
        if status == http.HTTPStatus.TOO_MANY_REQUESTS:
            hint = f"Try again in {wait_s} seconds, with the right one."
            fail(f"{self.url} was given too many wrong tokens from this address.", hint, UNREACHABLE)
        fail(
            f"{self.url} does not know this token." if self.token else f"{self.url} wants a token.",
            f"One of its config, admin.token or one of admin.tokens: --token-file FILE, or {TOKEN_VARIABLE}.",
            WRONG_USE,
        )


def listener(settings: Settings | None, url: str | None, token_file: Path | None) -> Listener:
    """The one that is named, or else the one of the config, with the token of the file, of the variable, or of the config."""
    token = _token(token_file)
    if url is not None:
        return Listener(_checked(url), token)
    if settings is None:
        return Listener("http://127.0.0.1:8081", token)
    host = EVERY_ADDRESS.get(settings.admin.host, settings.admin.host)
    name = f"[{host}]" if ":" in host else host
    return Listener(f"http://{name}:{settings.admin.port}", token or settings.admin.token.reveal())


def _token(file: Path | None) -> str:
    token = (file.read_text(encoding="utf-8", errors="replace") if file else os.environ.get(TOKEN_VARIABLE, "")).strip()
    if not token.isascii() or not token.isprintable() or (file and not token):
        fail(f"{file or TOKEN_VARIABLE} holds no token: one line of printable ASCII is wanted.")
    return token


def _checked(url: str) -> str:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        fits = parts.scheme in {"http", "https"} and parts.hostname and not parts.query and not parts.fragment
        port = parts.port
    except ValueError:
        fits = port = None
    if not fits or parts.username is not None:
        fail("--url must be an address such as http://127.0.0.1:8081, without a name and a password in it.")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{parts.path.rstrip('/')}"


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_S:.0f} seconds"
    if isinstance(error, socket.gaierror):
        return "there is no such name"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens"
    if isinstance(error, ssl.SSLError):
        return "TLS failed"
    return str(getattr(error, "strerror", "") or type(error).__name__)
