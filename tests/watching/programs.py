"""The programs of Prometheus and Alertmanager, as these tests run them."""

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus" / "prometheus.yml"
ALERTMANAGER = DEPLOY / "alertmanager" / "alertmanager.yml"
RULES = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))


def needs(program: str, package: str) -> pytest.MarkDecorator:
    """Skip where a program is not installed, saying what to install."""
    return pytest.mark.skipif(
        shutil.which(program) is None,
        reason=f"{program} is not installed; on Debian: apt install {package}",
    )


needs_promtool = needs("promtool", "prometheus")
needs_amtool = needs("amtool", "prometheus-alertmanager")


def complaint(*command: object) -> str:
    """Return what a program complains of; nothing if it is content."""
    run = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if run.returncode == 0 else run.stdout + run.stderr


@dataclass(frozen=True)
class Rule:
    """One rule of ours, an alert if it has annotations."""

    name: str
    expression: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


def rules() -> list[Rule]:
    """Read every rule of every file."""
    found = []
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                own: dict[str, Any] = rule
                found.append(
                    Rule(
                        own.get("alert") or own["record"],
                        own["expr"],
                        own.get("labels", {}),
                        own.get("annotations", {}),
                    )
                )
    return found


def alerts() -> list[Rule]:
    """Read every alert."""
    return [rule for rule in rules() if rule.annotations]
