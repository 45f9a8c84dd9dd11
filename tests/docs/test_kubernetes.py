"""The manifests for Kubernetes: what is known of them without a cluster."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.loading import load

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "config" / "kubernetes"
PARTS: list[dict[str, Any]] = list(yaml.safe_load_all((FOLDER / "gateway.yaml").read_text()))
(MONITOR,) = yaml.safe_load_all((FOLDER / "service-monitor.yaml").read_text())


def _of(kind: str) -> list[dict[str, Any]]:
    return [part for part in PARTS if part["kind"] == kind]


SET = _of("StatefulSet")[0]
POD = SET["spec"]["template"]
(GATEWAY,) = POD["spec"]["containers"]


@pytest.mark.real
@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"{part['kind']} {part['metadata']['name']}")
def test_a_manifest_fits_kubernetes_own_schema(part: dict[str, Any]) -> None:
    """Strictly: a key that it does not know is a misspelt one. Skipped without kubernetes-validate (108 MB)."""
    pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed").validate(
        part, "1.30", strict=True
    )


def test_the_config_within_is_valid(tmp_path: Path) -> None:
    """Listening off loopback, with the token where it is mounted and the journal on the volume."""
    text = _of("ConfigMap")[0]["data"]["tollgate.yaml"]
    mounts = {each["mountPath"] for each in GATEWAY["volumeMounts"]}
    secret = re.search(r"token_file: (\S+)", text)
    assert secret is not None
    assert str(Path(secret[1]).parent) in mounts
    (tmp_path / "token").write_text("only-for-this-test")
    path = tmp_path / "tollgate.yaml"
    path.write_text(text.replace(secret[1], str(tmp_path / "token")))
    settings = load(path, {})
    assert settings.admin.host == settings.front.host == "0.0.0.0"
    assert str(Path(settings.store.journal).parent) in mounts
    assert settings.store.url.startswith("redis://")
    key = Path(secret[1]).name
    assert MONITOR["spec"]["endpoints"][0]["authorization"]["credentials"] == {"name": "tollgate", "key": key}


def test_every_name_leads_somewhere() -> None:
    """Ports, volumes, selectors and labels belong together."""
    labels = POD["metadata"]["labels"]
    assert SET["spec"]["selector"]["matchLabels"] == labels
    ports = {port["name"]: port["containerPort"] for port in GATEWAY["ports"]}
    for service in _of("Service"):
        assert service["spec"]["selector"] == labels
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert GATEWAY[probe]["httpGet"]["port"] == "admin"
    claims = {claim["metadata"]["name"] for claim in SET["spec"]["volumeClaimTemplates"]}
    volumes = {volume["name"] for volume in POD["spec"]["volumes"]}
    assert {mount["name"] for mount in GATEWAY["volumeMounts"]} == claims | volumes
    watched = [
        service
        for service in _of("Service")
        if MONITOR["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    ]
    assert [service["metadata"]["name"] for service in watched] == [SET["spec"]["serviceName"]]
    assert watched[0]["spec"]["ports"][0]["name"] == MONITOR["spec"]["endpoints"][0]["port"]


def test_a_pod_is_no_more_than_it_must_be() -> None:
    """The user of the image, nothing to write but its volume, time to finish its calls."""
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert user is not None
    given = POD["spec"]["securityContext"]
    assert (given["runAsUser"], given["runAsGroup"]) == (int(user[1]), int(user[2]))
    assert given["runAsNonRoot"] is GATEWAY["securityContext"]["readOnlyRootFilesystem"] is True
    assert (
        GATEWAY["securityContext"]["allowPrivilegeEscalation"] is POD["spec"]["automountServiceAccountToken"] is False
    )
    pause = int(GATEWAY["lifecycle"]["preStop"]["exec"]["command"][1])
    assert POD["spec"]["terminationGracePeriodSeconds"] > pause + load(None, {}).front.shutdown_grace
    assert not re.search(r":latest|image: [^:]*$", (FOLDER / "gateway.yaml").read_text(), re.MULTILINE)
