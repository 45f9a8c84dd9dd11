"""The access log: one line for each request to the admin listener, among the lines of calls.

Paths are the templates of routes: neither what was asked for nor a query string is written, and no header but the name that
the client gives itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from gateway.observe.logs import escaped, fit
from gateway.observe.output import Output

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
MAX_AGENT_CHARS = 120


class AccessLog:
    """Writes a line a request. Raises nothing."""

    def __init__(self, form: str, output: Output) -> None:
        self._is_json = form == "json"
        self._output = output

    def write(self, access: Mapping[str, str | int | float]) -> None:
        """``access``: time (RFC 3339), method, path (a template, "" where no route matched), status, duration_ms, client (its
        address) and user_agent, as it came.
        """
        line = {
            "event": "access",
            **access,
            "method": access["method"] if access["method"] in METHODS else "other",
            "user_agent": fit(str(access["user_agent"])[:MAX_AGENT_CHARS]),
        }
        try:
            self._output.write([(orjson.dumps(line) if self._is_json else _console(line)) + b"\n"])
        except OSError:
            return  # nobody reads any more; the lines of calls are counted


def _console(line: Mapping[str, str | int | float]) -> bytes:
    text = (
        f"{line['time']} {line['status']} {line['method']} {line['path'] or '-'} {line['duration_ms']} ms  "
        f"{line['client']} {line['user_agent']}"
    )
    return escaped(text).encode()
