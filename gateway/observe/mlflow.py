"""Calls as traces in MLflow: its OTLP endpoint, the experiment they belong to, and what it wants to know beside the conventions.

Each call is a trace of its own, linked to the caller's: MLflow shows a trace whose root never reaches it as running for ever.
The calls of one correlation id are one session. Our cost goes along, because MLflow would otherwise work out its own.
Source: MLflow 3.17 (``/v1/traces`` with ``x-mlflow-experiment-id``; ``mlflow.llm.cost``), mlflow.org/docs/latest/genai/tracing.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace

import aiohttp
import orjson

from gateway.call import Record
from gateway.observe.exporter import Away, Refused
from gateway.observe.otel_env import Receiver
from gateway.observe.spans import Span
from gateway.observe.transports import PLAIN, Post, judge, read_some
from gateway.trust import trusted

EXPERIMENTS = "/api/2.0/mlflow/experiments"
TIMEOUT_S = 30.0
"""The first trace that a new server takes can last longer than five seconds."""
SplitCost = Callable[[Record], tuple[int, int]]
"""Nano-dollars of a call's input and output."""


class Mlflow:
    """A transport to one experiment, which is looked up, or made, before the first request."""

    def __init__(self, tracking_uri: str, experiment: str, username: str, password: str) -> None:
        self._uri = tracking_uri.rstrip("/")
        self._experiment = experiment
        self._headers = _credential(username, password)
        self._post: Post | None = None

    async def send(self, body: bytes) -> None:
        """See ``exporter.Transport``."""
        if self._post is None:
            number = await self._experiment_id()
            headers = (*self._headers.items(), ("x-mlflow-experiment-id", number))
            self._post = Post(Receiver(f"{self._uri}/v1/traces", "http/protobuf", TIMEOUT_S, False, "", headers))
        try:
            await self._post.send(body)
        except Refused:
            await self.close()  # the experiment may have been deleted: look it up again for the next
            raise

    async def close(self) -> None:
        """See ``exporter.Transport``."""
        post, self._post = self._post, None
        if post is not None:
            await post.close()

    async def _experiment_id(self) -> str:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        headers = PLAIN | self._headers
        try:
            async with aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=await trusted()),
                headers=headers,
                timeout=timeout,
                trust_env=True,
                auto_decompress=False,
            ) as session:
                found = await self._look_up(session)
                return found or await self._make(session)
        except (
            aiohttp.ClientError,
            TimeoutError,
            OSError,
            ValueError,
            LookupError,
            TypeError,
        ) as error:  # or no JSON of its
            raise Away(type(error).__name__) from None

    async def _look_up(self, session: aiohttp.ClientSession) -> str:
        wanted = {"experiment_name": self._experiment}
        url = f"{self._uri}{EXPERIMENTS}/get-by-name"
        async with session.get(url, params=wanted, allow_redirects=False) as answer:
            if answer.status == 404:
                return ""
            judge(answer.status, "")
            return str(orjson.loads(await read_some(answer))["experiment"]["experiment_id"])

    async def _make(self, session: aiohttp.ClientSession) -> str:
        """Another replica may have made it in the same moment: then the next try finds it."""
        url = f"{self._uri}{EXPERIMENTS}/create"
        async with session.post(url, json={"name": self._experiment}, allow_redirects=False) as answer:
            if answer.status == 400:
                raise Away("the experiment was not made")
            judge(answer.status, "")
            return str(orjson.loads(await read_some(answer))["experiment_id"])


def finisher(split: SplitCost) -> Callable[[list[Span], Record], None]:
    """Adds the cost to the first of a call's spans; MLflow reads dollars as numbers."""

    def finish(spans: list[Span], record: Record) -> None:
        if not record.cost_nanousd:
            return
        of_input, of_output = split(record)
        cost = {
            "input_cost": of_input / 1e9,
            "output_cost": of_output / 1e9,
            "total_cost": record.cost_nanousd / 1e9,
        }
        told = ("mlflow.llm.cost", orjson.dumps(cost).decode())
        spans[0] = replace(spans[0], own=[*spans[0].own, told])

    return finish


def _credential(username: str, password: str) -> dict[str, str]:
    if username:
        return {"Authorization": "Basic " + b64encode(f"{username}:{password}".encode()).decode()}
    return {"Authorization": f"Bearer {password}"} if password else {}
