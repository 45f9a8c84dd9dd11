"""A second receiver that nobody here wrote: Arize Phoenix reads the spans over HTTP and over gRPC."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]


def command() -> str:
    """Phoenix lives in an environment of its own (800 MB): ``PHOENIX``, ``.phoenix`` beside the code, or the path."""
    beside = ROOT / ".phoenix" / "bin" / "phoenix"
    found = os.environ.get("PHOENIX") or (str(beside) if beside.exists() else shutil.which("phoenix"))
    return found or pytest.skip("there is no Phoenix (.ci/run installs one)")


def test_phoenix_reads_spans_over_http_and_grpc(tmp_path):
    """Model, tokens, what was said, user and session, as the gateway's own records have them."""
    phoenix = command()
    alone = ["unshare", "-rn"]
    if subprocess.run([*alone, "ip", "link", "set", "lo", "up"], check=False, capture_output=True).returncode:
        pytest.skip("no network of its own can be made here")
    run = subprocess.run(
        [*alone, sys.executable, "-m", "tests.harness.phoenix", phoenix, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=360,
    )
    assert run.returncode == 0, run.stderr.decode()[-2000:]
    told = json.loads(run.stdout.splitlines()[-1])
    calls = {
        each["attributes"]["tollgate"]["call_id"]: each for each in told["spans"] if "gen_ai" in each["attributes"]
    }
    assert len(told["records"]) == 2
    for record in told["records"]:
        span = calls[record["call_id"]]
        attributes, usage = span["attributes"], record["usage"]
        read = usage.get("input", 0) + usage["cached_input"]
        assert span["name"] == "chat gpt-4o-mini"
        assert span["tokenCountTotal"] == read + usage["output"]
        assert attributes["llm"]["token_count"]["prompt_details"]["cache_read"] == 4
        assert attributes["llm"]["model_name"] == "gpt-4o-mini"
        assert attributes["llm"]["input_messages"][0]["message"]["content"] == "Say what a call costs, please."
        assert attributes["session"]["id"] == record["correlation_id"]
        assert attributes["user"]["id"] == record["user"]
        assert attributes["tollgate"]["cost_nanousd"] == record["cost_nanousd"] > 0
    assert {each["name"] for each in told["spans"]} == {"chat gpt-4o-mini", "admit", "upstream", "meter"}
