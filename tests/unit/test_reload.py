"""reload: a changed file is applied whole or not at all, and the log says which."""

import asyncio
import logging

import pytest

from gateway.loading import load
from gateway.reload import Reloader


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tollgate.yaml"
    path.write_text("metering: {unpriced: estimate}\n")
    return path


class Applied:
    """Records what was applied; can fail."""

    def __init__(self):
        self.settings = []
        self.fail = False

    async def __call__(self, settings):
        if self.fail:
            raise RuntimeError("no")
        self.settings.append(settings)


async def test_a_good_change_is_applied(config):
    """The new settings arrive once."""
    applied = Applied()
    reloader = Reloader(config, load(config, {}), applied)
    config.write_text("metering: {unpriced: refuse}\n")
    assert await reloader.reload()
    assert [each.metering.unpriced for each in applied.settings] == ["refuse"]


@pytest.mark.parametrize(
    "text", ["metering: {unpriced: rfuse}\n", "metering: [", "front: {port: 1}\n", "store: {lease: 5s}\n"]
)
async def test_a_bad_change_keeps_the_old_one_and_says_why(config, text, caplog):
    """Wrong values, broken YAML, and what only a restart can change."""
    applied = Applied()
    reloader = Reloader(config, load(config, {}), applied)
    config.write_text(text)
    with caplog.at_level(logging.ERROR, "gateway.reload"):
        logging.getLogger("gateway").propagate = True
        assert not await reloader.reload()
    assert not applied.settings
    assert "the old one stays" in caplog.text


async def test_an_apply_that_fails_keeps_the_old_one(config):
    """The next good change is compared with what is really in force."""
    applied = Applied()
    reloader = Reloader(config, load(config, {}), applied)
    applied.fail = True
    assert not await reloader.reload()
    applied.fail = False
    assert await reloader.reload()


async def test_the_watch_sees_a_replaced_file_and_a_trigger(config, tmp_path, monkeypatch):
    """An editor's rename is a change like any other; SIGHUP reloads even without one."""
    monkeypatch.setattr("gateway.reload.LOOK_SECONDS", 0.01)
    applied = Applied()
    reloader = Reloader(config, load(config, {}), applied)
    reloader.start()
    fresh = tmp_path / "fresh"
    fresh.write_text("metering: {unpriced: refuse}\n")
    fresh.rename(config)
    while not applied.settings:
        await asyncio.sleep(0.01)
    reloader.trigger()
    while len(applied.settings) < 2:
        await asyncio.sleep(0.01)
    await reloader.stop()
