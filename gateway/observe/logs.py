"""The log: one line a call, and the gateway's own messages in the same form.

A line is JSON or a line for people. Laws: no line is shaped by a caller (control characters are escaped), nothing that looks
like a key is written, and a full disk or a closed pipe loses lines, never calls.
"""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, BinaryIO

import orjson

from gateway.call import Record, Said
from gateway.observe import Batch
from gateway.observe.names import READ, WRITTEN
from gateway.observe.output import Output
from pricing.money import format_usd

SECRETS = re.compile(r"(?i)\b(?:bearer\s+\S+|(?:sk|pk|rk|key|token)-[\w-]{6,}|AIza[\w-]{20,})")
MASK = "***"


class CallLog:
    """A sink that writes one line a call."""

    name = "log"

    def __init__(self, form: str, stream: BinaryIO | None = None, *, content: bool = False) -> None:
        """``content``: what was said stands in the line, where it was captured."""
        self._content = content
        self._is_json = form == "json"
        self._output = Output(stream or sys.stdout.buffer)

    def take(self, batch: Batch) -> None:
        """Write a batch in one go. OSError when lines were lost."""
        before = self._output.dropped
        if self._is_json:
            said = batch.said if self._content else {}
            lines = zip(batch.texts, batch.records, strict=True)
            self._output.write([_json_line(text, said.get(record.call_id)) for text, record in lines])
        else:
            self._output.write([_console_line(record) for record in batch.records])
        if self._output.dropped > before:
            raise BlockingIOError("nobody reads the log")


def _json_line(text: bytes, said: Said | None) -> bytes:
    if said is None:
        return b'{"event":"call",' + text[1:] + b"\n"
    messages = f',"input_messages":{said.input},"output_messages":{said.output}}}\n'
    return b'{"event":"call",' + text[1:-1] + messages.encode()


def _console_line(record: Record) -> bytes:
    usage = record.usage
    read, written = (sum(usage.get(unit, 0) for unit in units) for units in (READ, WRITTEN))
    text = (
        f"{record.started_at} {record.status:>3} {record.team or '-':<12.12} {record.model_requested or record.operation or '-':<28.28} "
        f"{read:>7} in {written:>6} out ${format_usd(record.cost_nanousd):<12} {record.latency_ms:>9.1f} ms  "
        f"{record.outcome}{' ' + record.error_type if record.error_type else ''}  {record.call_id}"
    )
    return escaped(text).encode() + b"\n"


def escaped(text: str) -> str:
    """The text on one line: what cannot be printed is written as its escape."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _fit(text: str) -> str:
    """Without keys, and without half characters (of a file name that is no UTF-8), which JSON cannot hold."""
    return SECRETS.sub(MASK, text).encode(errors="backslashreplace").decode()


class _Formatter(logging.Formatter):
    """The gateway's own messages."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self._form = form

    def format(self, record: logging.LogRecord) -> str:
        text = _fit(record.getMessage())
        trace = _fit(self.formatException(record.exc_info)) if record.exc_info else ""
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        if self._form == "json":
            line: dict[str, Any] = {
                "event": "log",
                "time": moment,
                "level": record.levelname.lower(),
                "logger": record.name,
            }
            return orjson.dumps(line | {"message": text} | ({"trace": trace} if trace else {})).decode()
        return f"{moment} {record.levelname.lower()} {record.name}: {escaped(text)}" + (f"\n{trace}" if trace else "")


def setup(level: str, form: str) -> None:
    """The loggers of this package write to standard error, in the given form."""
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(_Formatter(form))
    logger = logging.getLogger("gateway")
    logger.handlers[:] = [output]
    logger.setLevel(level.upper())
    logger.propagate = False
