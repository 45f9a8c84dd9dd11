"""Processes that ask one another: who answers is heard, who does not is named, who is gone is not missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

from gateway.siblings import Siblings


async def says(question: Mapping[str, Any]) -> AsyncGenerator[Any]:
    yield {"heard": question["word"]}
    yield 2


async def hangs(question: Mapping[str, Any]) -> AsyncGenerator[Any]:
    yield 1
    await asyncio.Event().wait()


async def breaks(question: Mapping[str, Any]) -> AsyncGenerator[Any]:
    yield 1
    raise RuntimeError("a bug")


async def opened(folder: Path, name: str, answer: Any) -> Siblings:
    made = Siblings(folder, name)
    made.answer("it", answer)
    await made.open()
    return made


async def test_each_answers_or_is_named(tmp_path: Path) -> None:
    """A whole answer; None of one that hangs, or breaks off; nothing of one whose process is gone."""
    asker = await opened(tmp_path, "0-1", says)
    others = [await opened(tmp_path, name, how) for name, how in (("1-2", says), ("2-3", hangs), ("3-4", breaks))]
    gone = await opened(tmp_path, "4-5", says)
    assert gone._server is not None
    gone._server.close()  # as a process that was killed: its socket is still in the folder
    found = await asker.ask("it", word="hello")
    assert found == {"1-2": [{"heard": "hello"}, 2], "2-3": None, "3-4": None}
    for each in (asker, *others):
        await each.close()
    assert [path.name for path in tmp_path.iterdir()] == ["4-5.sock"]


async def test_a_question_that_nobody_knows_is_no_answer(tmp_path: Path) -> None:
    """Of another version, say."""
    asker, other = await opened(tmp_path, "0-1", says), await opened(tmp_path, "1-2", says)
    assert await asker.ask("another") == {"1-2": None}
    assert await asker.ask("it", word="still there") == {"1-2": [{"heard": "still there"}, 2]}
    for each in (asker, other):
        await each.close()
