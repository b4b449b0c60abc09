"""The image, what runs beside it, and the unit: as far as they can be checked without an engine."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mad.config import Settings
from tests.cli.conftest import SETTINGS
from tests.deploy.tools import DEPLOY, ROOT, documents, needs_tools, run

DOCKER = DEPLOY / "docker"
UNIT = DEPLOY / "systemd" / "mad.service"
IMAGE = (DOCKER / "Dockerfile").read_text()
COMPOSE = documents((DOCKER / "compose.yaml").read_text())[0]["services"]
STATE = "/var/lib/mad"

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing: apt install prometheus"
)
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="systemd-analyze is missing: apt install systemd",
)


def of_image() -> dict[str, str]:
    """Return the settings that the image makes."""
    return dict(re.findall(r"\b(MAD_\w+)=(\S+)", IMAGE))


def of_unit() -> dict[str, str]:
    """Return the settings that the unit makes."""
    return dict(re.findall(r"^Environment=(MAD_\w+)=(.+)$", UNIT.read_text(), re.MULTILINE))


@needs_tools
def test_the_image_is_written_as_hadolint_would() -> None:
    assert run("hadolint", DOCKER / "Dockerfile") == ""


@needs_tools
def test_yaml_is_written_alike() -> None:
    folders = [DEPLOY / one for one in ("docker", "grafana", "kubernetes")]
    rules = "{extends: default, rules: {document-start: disable, line-length: {max: 120}}}"
    assert run("yamllint", "--strict", "-d", rules, *folders) == ""


def test_the_image_is_of_files_that_are_there_and_let_through() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", IMAGE, re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    let_through = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert names == let_through
    assert all((ROOT / name).exists() for name in names)


def test_the_image_runs_as_nobody_of_note() -> None:
    last = IMAGE.rsplit("\nFROM ", 1)[1]
    assert "\nUSER 10001:10001\n" in last
    assert "pip install" not in last


def test_what_runs_beside_it_is_pinned_and_reached_from_this_machine_alone() -> None:
    for name, service in COMPOSE.items():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert name == "mad" or re.search(r":v?\d+\.\d+\.\d+$", service["image"])
    assert COMPOSE["mad"]["read_only"] is True


def test_what_is_mounted_is_in_the_checkout() -> None:
    for service in COMPOSE.values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DOCKER / source).exists(), source


@needs_promtool
def test_prometheus_beside_it_reads_its_settings(tmp_path: Path) -> None:
    text = (DOCKER / "prometheus.yml").read_text()
    shared = "/etc/prometheus/shared"
    assert f"../prometheus:{shared}:ro" in COMPOSE["prometheus"]["volumes"]
    file = tmp_path / "prometheus.yml"
    file.write_text(text.replace(shared, str(DEPLOY / "prometheus")))
    command = ["promtool", "check", "config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("given", [of_image(), of_unit(), COMPOSE["mad"]["environment"]])
def test_settings_are_those_that_a_server_takes(
    tmp_path: Path, given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mad.toml").write_text(SETTINGS)
    before = Settings.load(tmp_path / "mad.toml")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert given
    assert Settings.load(tmp_path / "mad.toml") != before


@pytest.mark.parametrize("given", [of_image() | COMPOSE["mad"]["environment"], of_unit()])
def test_all_state_is_in_one_directory(given: dict[str, str]) -> None:
    kept = ("SERVER__ALERT_LOG", "STREAM__CHECKPOINT", "FIT__DIRECTORY", "SECURITY__AUDIT_LOG")
    for name in (*kept, "BASELINE__STORE"):
        assert given[f"MAD_{name}"].removeprefix("sqlite:///").startswith(f"{STATE}/")


@needs_systemd
def test_the_unit_is_valid_and_gives_few_rights(tmp_path: Path) -> None:
    copied = tmp_path / "mad.service"
    copied.write_text(UNIT.read_text().replace("/opt/mad/bin/mad", sys.executable))
    for check in (("verify",), ("security", "--offline=true", "--threshold=20")):
        done = subprocess.run(
            ["systemd-analyze", *check, str(copied)],  # noqa: S607  # Debian's
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_unit_waits_as_long_as_a_server_drains(tmp_path: Path) -> None:
    (tmp_path / "mad.toml").write_text(SETTINGS)
    server = Settings.load(tmp_path / "mad.toml").server
    drains = server.lame_duck_seconds + server.drain_seconds
    stop = re.search(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert stop is not None
    for waits in (stop[1], COMPOSE["mad"]["stop_grace_period"].removesuffix("s")):
        assert float(waits) >= drains + 10
