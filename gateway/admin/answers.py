"""What the admin listener answers with: JSON, and errors of one shape. Errors never repeat what was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import orjson
from aiohttp import web

from gateway.admin.shapes import Fault


class Refused(Exception):  # noqa: N818 - a no is not an error of ours
    """A handler's no; the guard answers it in the shape of all errors. ``problems`` say what is wrong with which field."""

    def __init__(
        self,
        status: int,
        message: str,
        problems: Sequence[Fault] = (),
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.problems = problems
        self.headers = headers

    def answer(self) -> web.Response:
        """``{"error": {"message", "status"}}``, with ``problems`` where there are any."""
        told: dict[str, Any] = {"message": self.message, "status": self.status}
        if self.problems:
            told["problems"] = [{"field": each.field, "message": each.message} for each in self.problems]
        response = answer({"error": told}, self.status)
        response.headers.update(self.headers)
        return response


def answer(body: Any, status: int = 200) -> web.Response:
    """JSON, fresh each time."""
    return web.Response(
        body=orjson.dumps(body), status=status, content_type="application/json", headers={"Cache-Control": "no-store"}
    )


def problem(status: int, message: str) -> web.Response:
    """An error; the message never repeats what was asked."""
    return Refused(status, message).answer()
