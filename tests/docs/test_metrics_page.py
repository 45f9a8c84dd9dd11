"""docs/metrics.md: its examples are configs, and what it says of numbers is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.loading import load
from gateway.observe.gen_ai import GenAi
from gateway.settings import Metrics, Settings

TEXT = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


def test_there_are_examples() -> None:
    """No list, no test."""
    assert len(EXAMPLES) >= 3


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_a_config(example: str, tmp_path: Path) -> None:
    """And it changes something."""
    path = tmp_path / "tollgate.yaml"
    path.write_text(example)
    assert load(path, {}).observability.metrics != Settings().observability.metrics


def test_the_bounds_are_the_defaults() -> None:
    """As the page has them."""
    assert f"`max_label_values` values ({Metrics().max_label_values})" in TEXT
    assert f"`max_combinations` ({Metrics().max_combinations:,})" in TEXT


@pytest.mark.parametrize("latest", [False, True])
def test_every_instrument_of_the_conventions_is_named(latest: bool) -> None:
    """Those of both generations."""
    for name, _, _ in GenAi((), 1, 1, latest=latest).families():
        assert f"`{name}`" in TEXT, name
