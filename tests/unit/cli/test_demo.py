"""The demo, as a newcomer runs it: a process, no key, no network."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
from decimal import Decimal

from tests.harness.gateways import ROOT, free_port

ROW = re.compile(
    r"^(search|research|support) +(\S+) +(\d{3}) +(\d+) +(\d+) +([\d.]+) +\d+ +[\d-]+ +(\S+)$", re.MULTILINE
)
SPENT = re.compile(r"^ +team:(\w+)/day +\[[#.]{20}\] +\$([\d.]+) of", re.MULTILINE)


def demo(folder, *options):
    command = [sys.executable, "-m", "gateway", "demo", "--port", str(free_port()), *options]
    return subprocess.Popen(
        command, cwd=folder, env={"PYTHONPATH": str(ROOT), "PATH": ""}, stdout=subprocess.PIPE, text=True
    )


def test_the_demo_shows_calls_costs_and_a_refusal_that_add_up(tmp_path):
    """Three teams; one runs into its budget; what the table says is what the budgets say; nothing is left behind."""
    process = demo(tmp_path, "--admin-port", str(free_port()), "--once")
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    rows = ROW.findall(printed)
    assert {row[2] for row in rows} == {"200", "429", "500"}
    assert {row[6] for row in rows if row[2] == "200"} == {"provider", "counted"}
    spent = {team: Decimal(amount) for team, amount in SPENT.findall(printed)}
    assert set(spent) == {"search", "research", "support"}
    for team, amount in spent.items():
        assert amount == sum(Decimal(row[5]) for row in rows if row[0] == team) > 0
    assert "The budget 'team:support/day'" in printed
    assert list(tmp_path.iterdir()) == []


def test_the_demo_serves_on_until_it_is_told_to_stop(tmp_path):
    """The page that it names is there; Ctrl-C ends it with status 0."""
    admin = free_port()
    process = demo(tmp_path, "--admin-port", str(admin))
    assert process.stdout is not None
    printed = []
    for line in process.stdout:
        printed.append(line)
        if line.startswith("Serving until"):
            break
    page = urllib.request.urlopen(f"http://127.0.0.1:{admin}/", timeout=10).read()
    assert b"<title>Tollgate" in page
    spend = re.search(r"tollgate (report --by team --config \S+)", "".join(printed))
    assert spend is not None
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    command = [sys.executable, "-m", "gateway", *spend[1].split()]
    told = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert {"search", "research", "support"} <= set(told.stdout.split())
    process.send_signal(signal.SIGINT)
    process.stdout.read()
    process.stdout.close()
    assert process.wait(20) == 0
