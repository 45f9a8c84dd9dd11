"""docs/keys.md, word for word: its commands are run, its config is loaded, its app makes its call."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from gateway.cli import main
from gateway.errors import MEANINGS, Kind
from gateway.loading import load
from gateway.settings import GatewayKey, ProviderKey, Settings
from gateway.simulator import Simulator
from tests.harness.books import CHAT, MINI
from tests.harness.gateways import in_process, record_of
from tests.harness.messages import request
from tests.harness.raw_client import ask

TEXT = (Path(__file__).parents[2] / "docs" / "keys.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
COMMANDS = [line for form, block in BLOCKS if not form for line in block.splitlines()]
CONFIG, *EXAMPLES = [block for form, block in BLOCKS if form == "yaml"]


def command(start: str) -> list[str]:
    """The arguments of the page's command that begins so."""
    (line,) = [line for line in COMMANDS if line.startswith(f"tollgate {start}")]
    return shlex.split(line)[1:]


async def run(*arguments: str) -> str:
    """In a thread: a gateway goes on."""
    result = await asyncio.to_thread(CliRunner().invoke, main, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.asyncio
async def test_whoever_does_what_the_page_says_has_a_gateway_with_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first command to the first call; only addresses and ports are the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-operator")
    (tmp_path / "tollgate.yaml").write_text(CONFIG)
    assert "valid, version" in await run(*command("check"))
    key = (await run(*command("keys create --name search-prod"))).splitlines()[0]
    told = await run(*command("keys list"))
    assert "search-prod" in told
    assert "active" in told
    assert key not in told
    by_config = (await run(*command("keys create --name billing-prod"))).splitlines()
    config = f"{CONFIG}keys:\n{by_config[-1]}\n"
    assert [each for each in COMMANDS if each.startswith("export OPENAI_BASE_URL") and "OPENAI_API_KEY=tg-" in each]

    async with Simulator() as provider:
        config = config.replace("https://api.openai.com", provider.url)
        meant: dict[str, Any] = yaml.safe_load(config.replace("${OPENAI_API_KEY}", "sk-of-the-operator"))
        meant |= {"front": {"port": 0}, "admin": {"port": 0}}
        async with in_process(tmp_path, meant) as gateway:
            body = json.dumps(MINI).encode()
            refused = await ask(gateway.front_port, request("POST", CHAT, body=body))
            assert refused.status == 401
            answer = await ask(gateway.front_port, request("POST", CHAT, ("Authorization", f"Bearer {key}"), body=body))
            assert answer.status == 200
            record = await record_of(gateway.admin_url, answer.head.value(b"x-tollgate-call-id"))
            assert (record["key_name"], record["team"]) == ("search-prod", "search")
            assert "key:search-prod" in " ".join(record["accounts"])
            bearer = ("Authorization", f"Bearer {by_config[0]}")
            assert (await ask(gateway.front_port, request("POST", CHAT, bearer, body=body))).status == 200
            for line in [
                each for each in re.findall(r"`(tollgate keys [^`]+)`", TEXT) if "NAME" in each and "--" in each
            ]:
                words = shlex.split(line.replace("rotate NAME", "rotate search-prod").replace("NAME", "other"))
                await run(*words[1:])
            assert (await ask(gateway.front_port, request("POST", CHAT, body=body))).status == 401


def test_the_command_that_serves_is_one() -> None:
    """It is not run here: the gateway above is the same one."""
    name, *options = command("serve")
    serve = main.get_command(click.Context(main), name)
    assert serve is not None
    assert serve.make_context(name, options).params["config"] == Path("tollgate.yaml")


@pytest.mark.parametrize("field", list(GatewayKey.__dataclass_fields__))
def test_every_part_of_a_key_is_explained(field: str) -> None:
    """In the table."""
    assert re.search(rf"^\| .*`{field}`.* \| .+ \|$", TEXT, re.MULTILINE)


@pytest.mark.parametrize("field", list(ProviderKey.__dataclass_fields__))
def test_every_part_of_a_provider_key_is_in_the_example(field: str) -> None:
    """Of the page."""
    assert any(re.search(rf"[{{ ]{field}:", example) for example in EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_a_config(example: str, tmp_path: Path) -> None:
    """And it changes something."""
    secret = tmp_path / "secret"
    secret.write_text("sk-us")
    path = tmp_path / "tollgate.yaml"
    path.write_text(example.replace("/run/secrets/openai-us", str(secret)))
    assert load(path, {"OPENAI_EU_KEY": "sk-eu"}) != Settings()


@pytest.mark.parametrize("kind", [Kind.AUTHENTICATION, Kind.PERMISSION])
def test_both_errors_are_explained(kind: Kind) -> None:
    """With the status that they have."""
    assert f"| {MEANINGS[kind].status} | `{MEANINGS[kind].code}` |" in TEXT
