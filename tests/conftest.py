"""Fixtures that every folder of tests may use."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.harness.scripted import ScriptedUpstream


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """A scripted upstream on a free port; what it answers is its test's business."""
    async with ScriptedUpstream() as server:
        yield server
