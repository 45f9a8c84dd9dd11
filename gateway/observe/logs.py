"""The log: one line a call, and the gateway's own messages in the same form.

A line is JSON or a line for people. Laws: no line is shaped by a caller (control characters are escaped), nothing that looks
like a key is written, what an exception says is left out (it may quote a call; its type and place are told), and a full disk
or a closed pipe loses lines, never calls.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from gateway.call import Record, Said
from gateway.observe import Batch
from gateway.observe.names import READ, WRITTEN
from gateway.observe.output import Output
from pricing.money import format_usd

SECRETS = re.compile(r"(?i)\b(?:bearer\s+\S+|(?:sk|pk|rk|tg|key|token)-[\w-]{6,}|AIza[\w-]{20,})")
MASK = "***"
FOREIGN = ("asyncio", "aiohttp")
"""Loggers of libraries that speak up when something goes wrong in them."""


class CallLog:
    """A sink that writes one line a call."""

    name = "log"

    def __init__(
        self,
        form: str,
        stream: BinaryIO | None = None,
        sample_rate: float = 1.0,
        *,
        content: bool = False,
        lock: Path | None = None,
    ) -> None:
        """``sample_rate``: the share of ordinary calls that is written; ``content``: what was said stands in the line, where it
        was captured; ``lock``: see ``Output``.
        """
        self._content = content
        self._is_json = form == "json"
        self._sample_rate = sample_rate
        self.output = Output(stream or sys.stdout.buffer, lock)

    def take(self, batch: Batch) -> None:
        """Write a batch in one go. OSError when lines were lost."""
        before = self.output.dropped
        self.output.write(self._all_lines(batch) if self._sample_rate >= 1 else self._sampled_lines(batch))
        if self.output.dropped > before:
            raise BlockingIOError("nobody reads the log")

    def _all_lines(self, batch: Batch) -> list[bytes]:
        if not self._is_json:
            return [_console_line(record) for record in batch.records]
        if not (self._content and batch.said):
            return [_json_line(text) for text in batch.texts]
        lines = zip(batch.texts, batch.records, strict=True)
        return [_json_line(text, _said(batch.said.get(record.call_id))) for text, record in lines]

    def _sampled_lines(self, batch: Batch) -> list[bytes]:
        lines = []
        for record, text in zip(batch.records, batch.texts, strict=True):
            share = self._sample_rate if is_ordinary(record) else 1.0
            if share < 1 and not is_sampled(record.call_id, share):
                continue
            told = b'"sample_rate":%b,' % orjson.dumps(share) if share < 1 else b""
            told += _said(batch.said.get(record.call_id)) if self._content else b""
            lines.append(_json_line(text, told) if self._is_json else _console_line(record, share))
        return lines


def is_ordinary(record: Record) -> bool:
    """Whether one of many such calls says enough: not of a failure, a refusal, a cut, a price that is missing, a correction."""
    return not (
        record.error_type or record.unpriced or record.corrects or record.told_by or record.outcome != "completed"
    )


def is_sampled(call_id: str, share: float) -> bool:
    """The same answer for a call wherever it is asked."""
    return zlib.crc32(call_id.encode()) < share * 2**32


def _json_line(text: bytes, more: bytes = b"") -> bytes:
    return b"".join((b'{"event":"call",', more, text[1:], b"\n"))


def _said(said: Said | None) -> bytes:
    if said is None:
        return b""
    return f'"input_messages":{said.input},"output_messages":{said.output},'.encode()


def _console_line(record: Record, share: float = 1.0) -> bytes:
    usage = record.usage
    read, written = (sum(usage.get(unit, 0) for unit in units) for units in (READ, WRITTEN))
    text = (
        f"{record.started_at} {record.status:>3} {record.team or '-':<12.12} {record.model_requested or record.operation or '-':<28.28} "
        f"{read:>7} in {written:>6} out ${format_usd(record.cost_nanousd):<12} {record.latency_ms:>9.1f} ms  "
        f"{record.outcome}{' ' + record.error_type if record.error_type else ''}  {record.call_id}"
    )
    if share < 1:
        text += f"  sample_rate {share:g}"
    return escaped(text).encode() + b"\n"


def escaped(text: str) -> str:
    """The text on one line: what cannot be printed is written as its escape."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def fit(text: str) -> str:
    """Without keys, and without half characters (of a file name that is no UTF-8), which JSON cannot hold."""
    return SECRETS.sub(MASK, text).encode(errors="backslashreplace").decode()


class _Formatter(logging.Formatter):
    """The gateway's own messages."""

    def __init__(self, form: str, worker: int | None) -> None:
        super().__init__()
        self._form = form
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        text, call_id = fit(record.getMessage()), getattr(record, "call_id", "")
        if record.name.partition(".")[0] in FOREIGN:
            text = text.partition("\n")[0]  # what follows is the repr of whatever it was about
        trace = fit(_places(record.exc_info)) if record.exc_info else ""
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        if self._form == "json":
            line: dict[str, Any] = {
                "event": "log",
                "time": moment,
                "level": record.levelname.lower(),
                "logger": record.name,
            }
            line |= {"worker": self._worker} if self._worker is not None else {}
            line |= {"message": text}
            line |= {"call_id": call_id} if call_id else {}
            return orjson.dumps(line | ({"trace": trace} if trace else {})).decode()
        who = f"worker {self._worker} " if self._worker is not None else ""
        return f"{moment} {record.levelname.lower()} {who}{record.name}: {escaped(text)}" + (
            f"\n{trace}" if trace else ""
        )


def _places(error: tuple[type[BaseException], BaseException, Any] | tuple[None, None, None]) -> str:
    """Where an exception came from and of which types it and its causes are, without a word of what they say."""
    lines, at, seen = [], error[1], set[int]()
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        lines += [type(at).__name__, *(part.rstrip() for part in traceback.format_tb(at.__traceback__))]
        at = at.__cause__ or at.__context__
    return "\n".join(lines)


class _StandardError(logging.Handler):
    """Writes to what standard error is at the moment."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


def setup(level: str, form: str, worker: int | None = None) -> None:
    """The loggers of this package write to standard error, in the given form, and what libraries have to say of failures.
    ``worker``: which of several it is, to be told in each line.
    """
    output = _StandardError()
    output.setFormatter(_Formatter(form, worker))
    for name in FOREIGN:
        logging.getLogger(name).handlers[:] = [output]
    logger = logging.getLogger("gateway")
    logger.handlers[:] = [output]
    logger.setLevel(level.upper())
    logger.propagate = False
