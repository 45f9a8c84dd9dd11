"""docs/migrate-from-litellm.md: LiteLLM takes the one config, Tollgate the other, and both send the same calls to the same places."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from gateway.loading import load
from gateway.simulator import Simulator
from tests.harness import sdks
from tests.harness.gateways import in_process, record_of
from tests.harness.messages import request
from tests.harness.pages import blocks
from tests.harness.raw_client import ask

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]

THEIRS, PRICES, OURS = [block.text for block in blocks("docs/migrate-from-litellm.md") if block.form == "yaml"]
ENVIRON = dict.fromkeys(re.findall(r"\$\{(\w+)\}", OURS), "https://given.example")
PLACES = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com"}
"""Where LiteLLM sends what has no api_base."""
ROUTER = """
import json, sys, yaml, litellm
config = yaml.safe_load(sys.stdin)
router = litellm.Router(model_list=config["model_list"])
print(json.dumps([[each["model_name"], *litellm.get_llm_provider(each["litellm_params"]["model"])[:2]] for each in router.model_list]))
"""


def test_names_of_their_config_are_names_of_the_page() -> None:
    """Every block and every setting of the one config is explained by the other or by the table."""
    known = {"model_list", "litellm_settings", "general_settings", "router_settings"}
    assert set(yaml.safe_load(THEIRS)) == known


@pytest.mark.asyncio
async def test_litellm_takes_its_config() -> None:
    """Its own router reads the list of models, and says which provider each is."""
    python = sdks.python()
    if isinstance(python, str):
        pytest.skip(python)
    process = await asyncio.create_subprocess_exec(
        str(python),
        "-c",
        ROUTER,
        env={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, complaint = await asyncio.wait_for(process.communicate(THEIRS.encode()), 100)
    assert process.returncode == 0, complaint.decode()[-2000:]
    assert json.loads(printed.splitlines()[-1]) == [
        ["gpt-4o-mini", "gpt-4o-mini", "openai"],
        ["claude-haiku-4-5", "claude-haiku-4-5", "anthropic"],
        ["our-llama", "our-llama", "hosted_vllm"],
    ]


@pytest.mark.asyncio
async def test_each_model_goes_to_the_same_place_at_the_same_price(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for under LiteLLM's name; the record tells upstream, and a price that is the config's own where it has one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prices.yaml").write_text(PRICES)
    (tmp_path / "said.yaml").write_text(OURS)
    said = load(tmp_path / "said.yaml", ENVIRON)
    async with Simulator() as provider:
        config: dict[str, Any] = yaml.load(re.sub(r"\$\{\w+\}", "given", OURS), yaml.BaseLoader)
        for name, upstream in config["upstreams"].items():
            upstream["base_url"] = provider.url + ("" if said.upstreams[name].protocol == "anthropic" else "/v1")
        config |= {"front": {"port": 0}, "admin": {"port": 0}, "store": {"url": f"sqlite:///{tmp_path}/books.db"}}
        del config["observability"], config["alerts"]  # nobody listens there
        async with in_process(tmp_path, config) as gateway:
            for entry in yaml.safe_load(THEIRS)["model_list"]:
                theirs = entry["litellm_params"]
                kind, _, model = theirs["model"].partition("/")
                path = "/anthropic/v1/messages" if kind == "anthropic" else "/v1/chat/completions"
                body = {
                    "model": entry["model_name"],
                    "max_tokens": 20,
                    "messages": [{"role": "user", "content": "Hello"}],
                }
                answer = await ask(gateway.front_port, request("POST", path, body=json.dumps(body).encode()))
                record = await record_of(gateway.admin_url, answer.head.value(b"x-tollgate-call-id"))
                assert (record["status"], record["model_served"]) == (200, model)
                place = said.upstreams[record["upstream"]].base_url
                assert urlsplit(place) == urlsplit(theirs.get("api_base", PLACES.get(kind, "")))
                if "input_cost_per_token" in theirs:
                    used = record["usage"]
                    cost = (
                        used["input"] * theirs["input_cost_per_token"]
                        + used["output"] * theirs["output_cost_per_token"]
                    )
                    assert record["cost_nanousd"] == round(cost * 1e9)
                assert not record["unpriced"]


def test_what_they_limit_is_limited() -> None:
    """The sum, in the same window."""
    theirs = yaml.safe_load(THEIRS)["litellm_settings"]
    (budget,) = yaml.load(OURS, yaml.BaseLoader)["budgets"]
    assert (theirs["max_budget"], theirs["budget_duration"]) == (int(budget["limit_usd"]), "1d")
    assert (budget["scope"], budget["window"]) == ("global", "day")
