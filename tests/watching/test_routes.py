"""Alertmanager takes our settings, and sends pages and tickets where they belong."""

import subprocess

import pytest
import yaml

from tests.watching.programs import ALERTMANAGER, alerts, complaint, needs_amtool


@needs_amtool
def test_amtool_finds_nothing_to_complain_about() -> None:
    assert complaint("amtool", "check-config", ALERTMANAGER) == ""


@needs_amtool
@pytest.mark.parametrize("severity", ["page", "ticket"])
def test_an_alert_goes_where_its_severity_says(severity: str) -> None:
    labels = [f"severity={severity}", "alertname=MadAnomalyBurst", "model=m"]
    run = subprocess.run(
        ["amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", *labels],  # noqa: S607 - wherever the machine has it
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == severity


def test_inhibitions_name_alerts_that_there_are() -> None:
    severities = {alert.name: alert.labels["severity"] for alert in alerts()}
    for rule in yaml.safe_load(ALERTMANAGER.read_text())["inhibit_rules"]:
        for side in ("source_matchers", "target_matchers"):
            (matcher,) = rule[side]
            names = matcher.split('"')[1].split("|")
            assert set(names) <= set(severities)
        # Nobody is to sleep through a page for the sake of a ticket.
        sources = rule["source_matchers"][0].split('"')[1].split("|")
        assert {severities[name] for name in sources} == {"page"}
