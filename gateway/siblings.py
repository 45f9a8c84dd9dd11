"""Processes of one supervisor ask one another, over unix sockets in a folder that only they can read.

A question is a line of JSON (``ask`` and what belongs to it), an answer is lines, and an empty line when it is whole. Who does not
answer in time is left out and named: a process that hangs must not make the others look dead. Nothing is kept here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

log = logging.getLogger("gateway.siblings")

LIMIT_S = 0.1
MAX_LINE_BYTES = 8 << 20
SOCKET = ".sock"
Answer = Callable[[Mapping[str, Any]], AsyncGenerator[Any]]
"""Gets the question, gives what is to be told, a line each."""


class Siblings:
    """``name`` is this process's own; what others call it begins with its number."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self.name = name
        self._answers: dict[str, Answer] = {}
        self._server: asyncio.Server | None = None

    def answer(self, ask: str, answer: Answer) -> None:
        """What is said when somebody asks for this."""
        self._answers[ask] = answer

    async def open(self) -> None:
        """Begin to answer."""
        path = self._folder / f"{self.name}{SOCKET}"
        self._server = await asyncio.start_unix_server(self._serve, path, limit=MAX_LINE_BYTES)

    async def close(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.close()
            self._server = None
            with contextlib.suppress(OSError):
                (self._folder / f"{self.name}{SOCKET}").unlink()

    def others(self) -> list[str]:
        """The names of those that are there, dying ones among them."""
        found = sorted(path.name.removesuffix(SOCKET) for path in self._folder.glob(f"*{SOCKET}"))
        return [name for name in found if name != self.name]

    async def ask(self, ask: str, limit_s: float = LIMIT_S, **about: Any) -> dict[str, list[Any] | None]:
        """What each of the others says, within ``limit_s``; None for one that is there and does not answer."""
        names = self.others()
        found = await asyncio.gather(*(self._whole(name, {"ask": ask, **about}, limit_s) for name in names))
        return {name: answer for name, (is_there, answer) in zip(names, found, strict=True) if is_there}

    async def _whole(self, name: str, question: Mapping[str, Any], limit_s: float) -> tuple[bool, list[Any] | None]:
        """(whether it is there, what it says)."""
        try:
            async with asyncio.timeout(limit_s):
                return True, [each async for each in self.lines(name, question)]
        except (FileNotFoundError, ConnectionRefusedError):
            return False, None
        except (TimeoutError, OSError, EOFError, ValueError):
            return True, None

    async def lines(self, name: str, question: Mapping[str, Any]) -> AsyncGenerator[Any]:
        """What one says, as it says it. OSError when it is not there, EOFError when it ends in the midst of its answer."""
        reader, writer = await asyncio.open_unix_connection(self._folder / f"{name}{SOCKET}", limit=MAX_LINE_BYTES)
        try:
            writer.write(orjson.dumps(question) + b"\n")
            while True:
                line = await reader.readuntil(b"\n")  # EOFError: IncompleteReadError is one
                if line == b"\n":
                    return
                yield orjson.loads(line)
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            question = orjson.loads(await reader.readuntil(b"\n"))
            async with contextlib.aclosing(self._answers[question["ask"]](question)) as told:
                async for each in told:
                    writer.write(orjson.dumps(each) + b"\n")
                    await writer.drain()
            writer.write(b"\n")
            await writer.drain()
        except (OSError, EOFError):
            log.debug("who asked has left")
        except Exception:
            log.exception("a bug while answering another worker")
        finally:
            writer.close()
