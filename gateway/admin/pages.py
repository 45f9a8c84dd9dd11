"""The files of the live page, served to anybody: they hold no numbers, but ask the API for them, with the token."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable

from aiohttp import ETag, web

from gateway.admin.routes import OPEN, Handler, Route

FOLDER = "page"
INDEX = "index.html"
KINDS = {
    "css": "text/css",
    "gif": "image/gif",
    "html": "text/html",
    "ico": "image/x-icon",
    "js": "text/javascript",
    "json": "application/json",
    "map": "application/json",
    "mjs": "text/javascript",
    "png": "image/png",
    "svg": "image/svg+xml",
    "txt": "text/plain",
    "webmanifest": "application/manifest+json",
    "woff2": "font/woff2",
}
"""By the end of the name; the system's own table differs from machine to machine. Nothing else is served."""


def routes() -> list[Route]:
    """One for each file below the folder, at its own path; ``index.html`` also at ``/``."""
    found = []
    for path, file in _files(resources.files("gateway.admin") / FOLDER, "/"):
        handler = _sender(file.read_bytes(), KINDS[path.rpartition(".")[2]])
        found.append(Route("GET", path, OPEN, handler, "A file of the live page."))
        if path == f"/{INDEX}":
            found.append(Route("GET", "/", OPEN, handler, "The live page."))
    return found


def _files(folder: Traversable, at: str) -> Iterator[tuple[str, Traversable]]:
    for each in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if each.is_dir():
            yield from _files(each, f"{at}{each.name}/")
        elif each.name.rpartition(".")[2] in KINDS and not each.name.startswith("."):
            yield f"{at}{each.name}", each


def _sender(body: bytes, kind: str) -> Handler:
    """A browser asks each time whether it is still the same, and mostly gets a 304."""
    etag = ETag(hashlib.blake2b(body, digest_size=12).hexdigest())
    charset = "utf-8" if kind.startswith("text/") or kind.endswith(("json", "xml")) else None

    async def send(request: web.Request) -> web.StreamResponse:
        response = web.Response(body=body, content_type=kind, charset=charset, headers={"Cache-Control": "no-cache"})
        response.etag = etag
        return response

    return send
