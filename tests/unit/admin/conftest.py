"""Gateways whose admin listeners are asked: one open, as on a laptop, and one with a token."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.simulator import Simulator
from tests.harness.gateways import config_for, in_process
from tests.harness.messages import request
from tests.harness.raw_client import Answer, ask

TOKEN, KEY = "admin-zqtokenzq", "sk-zqproviderzq"


@asynccontextmanager
async def serving(provider: Simulator, folder: Path, **blocks: Any) -> AsyncIterator[Any]:
    """A gateway with a budget and a provider's key."""
    budgets = [{"scope": "global", "limit_usd": 5, "window": "month"}]
    config = config_for(folder, provider.url, budgets=budgets, up={"api_key": KEY}, **blocks)
    async with in_process(folder, config) as gateway:
        yield gateway


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[Simulator]:
    """The provider behind them."""
    async with Simulator() as simulator:
        yield simulator


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened(provider: Simulator, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    """Without a token."""
    async with serving(provider, tmp_path_factory.mktemp("open")) as gateway:
        yield gateway


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def locked(provider: Simulator, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    """With one."""
    async with serving(provider, tmp_path_factory.mktemp("locked"), admin={"port": 0, "token": TOKEN}) as gateway:
        yield gateway


async def get(
    gateway: Any, path: str, *fields: tuple[str, str], method: str = "GET", host: str = "localhost", source: str = ""
) -> Answer:
    """What the admin listener answers."""
    return await ask(gateway.admin_port, request(method, path, *fields, host=host), source=source)


def somewhere() -> Iterator[str]:
    """Addresses to come from, one after the other: who tries wrong tokens is locked out."""
    for number in itertools.count(1):
        yield f"127.9.{number // 250 % 250}.{number % 250 + 1}"


ADDRESSES = somewhere()
