"""What holds for every test: values are frozen for real (in service they are frozen for the type checker only).

And what keeps a run of thousands of them short: see the functions.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from functools import cache
from pathlib import Path

# started in the background of a script, it would be ignored by children, too
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["TOLLGATE_FROZEN"] = "1"  # read by gateway.value when the first value is defined, hence before any import

import pytest
import tiktoken
from aiohttp import web_app
from hypothesis import HealthCheck, settings

from gateway.compile import vocabulary
from gateway.metering.tokens import Counter

settings.register_profile("tollgate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tollgate")
"""Tests are not timed: a machine that is busy with something else must not turn them red."""

_build = Counter._build


@cache
def _shipped(encoding: str) -> tiktoken.Encoding:
    return _build(Counter(vocabulary), encoding)


def _build_once(counter: Counter, encoding: str) -> tiktoken.Encoding:
    """A vocabulary never changes. Hundreds of gateways that each unpack it (0.3 s, 80 MB) were a fifth of what a run computes."""
    return _shipped(encoding) if counter._vocabulary is vocabulary else _build(counter, encoding)


Counter._build = _build_once


@pytest.fixture(scope="module", autouse=True)
def gateways_end_with_their_module() -> Iterator[None]:
    """aiohttp keeps the last 1024 pairs of a handler and its applications, and so every gateway whose admin listener was ever
    asked something, until the process has gigabytes for the collector to walk through.
    """
    yield
    web_app._cached_build_middleware.cache_clear()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every third file is one of those that wait for big servers, until there are no more of them: begun at the end, one would be
    all that a run still waits for; begun together, they would only wait for each other.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    big = [path for path in files if path.parent.name == "real"]
    order = [path for path in files if path.parent.name != "real"]
    for number, path in enumerate(big):
        order.insert(3 * number, path)
    items[:] = [item for path in order for item in files[path]]


def pytest_collection_finish() -> None:
    """As ``serve`` does once it is built: the collector need not look again and again at what stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
