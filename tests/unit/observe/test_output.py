"""Output that never waits, against real pipes and files."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
from pathlib import Path

import pytest

from gateway.observe.output import MAX_KEPT_BYTES, Output


def line(number: int, size: int = 1000) -> bytes:
    return b"%08d " % number + b"x" * size + b"\n"


def read_all(fd: int) -> bytes:
    """What is in the pipe right now."""
    os.set_blocking(fd, False)
    found = b""
    try:
        while piece := os.read(fd, 1 << 20):
            found += piece
    except BlockingIOError:
        pass
    return found


def test_lines_reach_a_pipe_a_file_and_a_buffer_whole_and_in_order(tmp_path: Path) -> None:
    """Whatever stands at the other end."""
    lines = [line(number) for number in range(40)]
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as pipe, (tmp_path / "log").open("ab") as file:
        buffer = io.BytesIO()
        for stream in (pipe, file, buffer):
            Output(stream).write(lines)
        assert read_all(reading) == (tmp_path / "log").read_bytes() == buffer.getvalue() == b"".join(lines)
    os.close(reading)


async def test_a_reader_that_stands_still_holds_nobody_up_and_gets_what_was_kept() -> None:
    """The write returns although the pipe is full; the rest follows by itself when there is room, no line torn."""
    reading, writing = os.pipe()
    fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, 4096)
    lines = [line(number) for number in range(60)]
    with os.fdopen(writing, "wb") as pipe:
        output = Output(pipe)
        for each in lines:
            output.write([each])
        found = b""
        async with asyncio.timeout(60):
            while len(found) < len(b"".join(lines)):
                found += read_all(reading)
                await asyncio.sleep(0.01)
    assert found == b"".join(lines)
    assert output.dropped == 0
    os.close(reading)


def test_what_is_beyond_the_bound_is_dropped_in_whole_lines_and_counted() -> None:
    """Memory has a bound, also when nobody ever reads."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as pipe:
        output = Output(pipe)
        count = MAX_KEPT_BYTES // 1009 + 500
        for number in range(count):
            output.write([line(number, 999)])
        assert 0 < output.dropped < count
        kept = read_all(reading)
        while before := len(kept):
            output.write([])
            kept += read_all(reading)
            if len(kept) == before:
                break
    assert kept.count(b"\n") + output.dropped == count
    assert kept.startswith(b"00000000 ")
    assert kept.endswith(b"x\n")
    os.close(reading)


def test_a_reader_that_is_gone_is_an_error_and_nothing_is_kept_for_it() -> None:
    """The fan-out counts it; the next line is tried again."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        output = Output(pipe)
        for lost in (2, 3):
            with pytest.raises(BrokenPipeError):
                output.write([line(1)] * (lost - output.dropped))
            assert output.dropped == lost


async def test_who_has_begun_a_line_is_alone_until_it_has_ended(tmp_path: Path) -> None:
    """Two processes on one pipe: a line longer than what is written at once is not torn by the other's, however slow the reader."""
    reading, writing = os.pipe()
    fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, 4096)
    with os.fdopen(writing, "wb") as pipe:
        one, other = Output(pipe, tmp_path / "lock"), Output(pipe, tmp_path / "lock")
        one.write([line(1, 20_000)])
        other.write([line(2, 10)])
        found = b""
        async with asyncio.timeout(60):
            while found.count(b"\n") < 2:
                found += read_all(reading)
                await asyncio.sleep(0)
    assert found == line(1, 20_000) + line(2, 10)
    os.close(reading)


def test_a_lock_that_is_not_needed_is_not_made(tmp_path: Path) -> None:
    """Each write to a file is whole by itself."""
    with (tmp_path / "log").open("ab") as file:
        Output(file, tmp_path / "lock").write([line(1)])
    assert not (tmp_path / "lock").exists()
