"""The OpenAPI document against a running gateway with data: what it says is what happens, whatever is sent."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.admin.routes import ROLES
from gateway.simulator import Simulator
from tests.harness.books import CALLS, CHAT, MINI, post
from tests.harness.gateways import GatewayProcess, config_for
from tests.harness.messages import request
from tests.harness.raw_client import ask

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKEN = "operator-zqtokenzq"
BEARER = ("Authorization", f"Bearer {TOKEN}")
SCHEMATHESIS = """
[[operations]]
include-path = "/api/v1/spend"
# a report's longest span is no property of either of its days, which is all that a schema can say
checks = { positive_data_acceptance = { enabled = false } }

[[operations]]
include-path = "/api/v1/budgets"
# a cursor is whatever a page before gave
checks = { positive_data_acceptance = { enabled = false } }

[[operations]]
include-method = ["POST", "PUT"]
# scopes, time zones, networks, moments and upstreams are read as in the config: no schema can say all that they must be
checks = { positive_data_acceptance = { enabled = false } }
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    """With calls, budgets, a target, a refusal, a fault."""
    folder = tmp_path_factory.mktemp("served")
    async with Simulator() as provider:
        config = config_for(
            folder,
            provider.url,
            admin={"tokens": [{"name": "tester", "token": TOKEN, "role": "operator"}]},
            budgets=[{"scope": "team:*", "limit_usd": 5}, {"scope": "user:poor", "limit_usd": "0.000000001"}],
            targets=[{"name": "quick", "latency_ms": 2000, "objective": 0.9}],
        )
        gateway = GatewayProcess(folder, config)
        await gateway.start()
        try:
            for target, body, wish in CALLS.values():
                await ask(gateway.front_port, post(target, body, wish, ("x-tollgate-team", "search")))
            await ask(gateway.front_port, post(CHAT, MINI, "", ("x-tollgate-user", "poor")))
            await ask(gateway.front_port, post(CHAT, MINI, "status=500"))
            yield gateway
        finally:
            await gateway.kill()


async def document_of(gateway: Any) -> dict[str, Any]:
    """As anybody with a token gets it."""
    answer = await ask(gateway.admin_port, request("GET", "/api/v1/openapi.json", BEARER, host="localhost"))
    assert answer.status == 200
    found: dict[str, Any] = json.loads(answer.body.content)
    return found


async def test_the_document_is_valid_openapi(served: GatewayProcess) -> None:
    """Held against the specification's own schema; every operation says who may use it and what it answers."""
    document = await document_of(served)
    OpenAPIV31SpecValidator(document).validate()
    operations = [each for path in document["paths"].values() for each in path.values()]
    assert len({each["operationId"] for each in operations}) == len(operations) > 10
    for each in operations:
        assert each["x-role"] in ROLES
        assert each["security"] == ([] if each["x-role"] == "open" else [{"bearer": []}])
        assert any(200 <= int(status) < 300 for status in each["responses"])
        for status, response in each["responses"].items():
            for media, content in response.get("content", {}).items():
                assert content["schema"] != {}, (each["operationId"], status, media)


@pytest.mark.timeout(300)
async def test_the_gateway_does_what_the_document_says(served: GatewayProcess, tmp_path: Path) -> None:
    """Several hundred requests that Schemathesis makes from the document, right and wrong ones: no 5xx, no status and no shape that
    is not declared, no wrong parameter that is taken, no right one that is refused.
    """
    (tmp_path / "schemathesis.toml").write_text(SCHEMATHESIS)
    endless = [
        option
        for path, operations in (await document_of(served))["paths"].items()
        for option in ("--exclude-path", path)
        if "text/event-stream" in operations.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
    ]
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).parent / "schemathesis"), "--config-file", str(tmp_path / "schemathesis.toml")),
        *("run", f"{served.admin_url}/api/v1/openapi.json", "--header", f"Authorization: Bearer {TOKEN}", "--no-color"),
        *("--max-examples", "20", "--generation-deterministic", "--continue-on-failure"),
        *(
            "--exclude-checks",
            "ignored_auth",
        ),  # who tries wrong tokens out is locked out: tests/unit/admin has every route
        *endless,
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        told, _ = await asyncio.wait_for(process.communicate(), 250)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, told.decode()[-20_000:]
    assert b"a bug in the admin" not in served.log.encode()
