"""The manifests build, have the schema of their kinds, and hold together."""

import os
from pathlib import Path
from typing import Any

import pytest

from mad.config import Settings
from mad.metrics import TABLE
from tests.deploy.tools import DEPLOY, documents, needs_tools, run

pytestmark = needs_tools
KUBERNETES = DEPLOY / "kubernetes"
NAME = {"app.kubernetes.io/name": "mad"}


def built(overlay: Path) -> str:
    """Return all objects of an overlay, as the cluster would be given them."""
    return run("kubectl", "kustomize", overlay)


def with_tls(folder: Path) -> Path:
    """Write an overlay of the example in which mad does TLS itself."""
    example, tls = (os.path.relpath(KUBERNETES / one, folder) for one in ("example", "tls"))
    (folder / "kustomization.yaml").write_text(f"resources: [{example}]\ncomponents: [{tls}]\n")
    return folder


def of_kind(text: str, kind: str) -> dict[str, Any]:
    """Return the object of a kind called mad."""
    (found,) = [
        one for one in documents(text) if one["kind"] == kind and one["metadata"]["name"] == "mad"
    ]
    return found


@pytest.fixture(scope="module")
def example() -> str:
    return built(KUBERNETES / "example")


def pod(text: str) -> dict[str, Any]:
    """Return what the servers' pods are made from."""
    made: dict[str, Any] = of_kind(text, "StatefulSet")["spec"]["template"]["spec"]
    return made


def container(text: str) -> dict[str, Any]:
    """Return the one container of a pod."""
    (only,) = pod(text)["containers"]
    made: dict[str, Any] = only
    return made


def variables(text: str) -> dict[str, str]:
    """Return the environment of the container, where it is no secret's."""
    return {one["name"]: one["value"] for one in container(text)["env"] if "value" in one}


def test_every_object_has_the_schema_of_its_kind(tmp_path: Path, example: str) -> None:
    for text in (example, built(with_tls(tmp_path))):
        (tmp_path / "all.yaml").write_text(text)
        run("kubernetes-validate", "--strict", "--quiet", tmp_path / "all.yaml")
    broken = example.replace("maxUnavailable: 1", "maxUnavailable: [1]", 1)
    (tmp_path / "broken.yaml").write_text(broken)
    with pytest.raises(AssertionError, match="maxUnavailable"):
        run("kubernetes-validate", "--strict", tmp_path / "broken.yaml")


def test_selectors_find_the_pods_and_nothing_else_is_renamed(example: str) -> None:
    servers = of_kind(example, "StatefulSet")["spec"]
    assert servers["selector"]["matchLabels"] == NAME
    assert NAME.items() <= servers["template"]["metadata"]["labels"].items()
    assert of_kind(example, "Service")["spec"]["selector"] == NAME
    assert of_kind(example, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == NAME
    policy = of_kind(example, "NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"] == NAME
    dns, _ = policy["egress"]
    assert dns["to"][0]["podSelector"]["matchLabels"] == {"k8s-app": "kube-dns"}
    scraped = of_kind(example, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert scraped.items() <= of_kind(example, "Service")["metadata"]["labels"].items()


def test_a_pod_may_end_once_clients_have_left_and_calls_are_answered(example: str) -> None:
    asked = variables(example)
    waits = pod(example)["terminationGracePeriodSeconds"]
    before = container(example)["lifecycle"]["preStop"]["sleep"]["seconds"]
    lame, drain = (float(asked[f"MAD_SERVER__{one}_SECONDS"]) for one in ("LAME_DUCK", "DRAIN"))
    probe = container(example)["readinessProbe"]
    # Health is down while lame: long enough for probes to see it.
    assert lame > probe["periodSeconds"]
    # Ten seconds more to write what waits.
    assert waits >= before + lame + drain + 10


def test_pods_have_no_rights_and_write_to_volumes_alone(example: str) -> None:
    who = pod(example)["securityContext"]
    assert who["runAsNonRoot"] is True
    assert who["runAsUser"] == 10001
    assert who["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod(example)["automountServiceAccountToken"] is False
    limits = container(example)["securityContext"]
    assert limits["readOnlyRootFilesystem"] is True
    assert limits["allowPrivilegeEscalation"] is False
    assert limits["capabilities"] == {"drop": ["ALL"]}
    mounts = container(example)["volumeMounts"]
    writable = {one["mountPath"] for one in mounts if not one.get("readOnly")}
    assert writable == {"/srv/baselines", "/var/lib/mad", "/tmp"}  # noqa: S108  # a mount
    volumes = {one["name"] for one in pod(example)["volumes"]} | {"state"}
    assert {one["name"] for one in mounts} == volumes


def test_health_is_asked_by_grpc_and_with_tls_over_https(tmp_path: Path, example: str) -> None:
    plain, secured = container(example), container(built(with_tls(tmp_path)))
    ports = {one["name"]: one["containerPort"] for one in plain["ports"]}
    for probe in ("startupProbe", "readinessProbe"):
        assert plain[probe]["grpc"]["port"] == ports["grpc"]
        assert "grpc" not in secured[probe]
        assert secured[probe]["httpGet"]["scheme"] == "HTTPS"
    assert plain["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert secured["livenessProbe"]["httpGet"]["scheme"] == "HTTPS"
    monitor = of_kind(built(with_tls(tmp_path)), "ServiceMonitor")["spec"]["endpoints"][0]
    assert monitor["scheme"] == "https"


def test_servers_are_added_by_a_series_that_is_exported(example: str) -> None:
    scaler = of_kind(example, "HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"]["kind"] == "StatefulSet"
    assert "replicas" not in of_kind(example, "StatefulSet")["spec"]
    (metric,) = scaler["metrics"]
    name = metric["pods"]["metric"]["name"]
    assert name in {series.name for series in TABLE if series.kind == "gauge"}
    adapter = documents((KUBERNETES / "monitoring" / "adapter.yaml").read_text())
    assert adapter[0]["rules"][0]["seriesQuery"].startswith(f"{name}{{")


@pytest.mark.parametrize("is_secured", [False, True])
def test_settings_are_those_that_a_server_takes(
    tmp_path: Path, example: str, monkeypatch: pytest.MonkeyPatch, *, is_secured: bool
) -> None:
    for name, value in variables(built(with_tls(tmp_path)) if is_secured else example).items():
        monkeypatch.setenv(name, value)
    (settings,) = [one for one in documents(example) if one["kind"] == "ConfigMap"]
    (tmp_path / "mad.toml").write_text(settings["data"]["mad.toml"])
    security = Settings.load(tmp_path / "mad.toml").security
    assert security.tokens == Path("/etc/mad-tokens/tokens.toml")
    assert security.insecure is not is_secured
    assert (security.tls_key is not None) is is_secured
