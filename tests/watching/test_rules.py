"""Rules that operators copy: each alert fires when it says it does, and says what to do then."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from mad.cli.main import app
from tests.watching.programs import (
    DEPLOY,
    PROMETHEUS,
    RULES,
    Rule,
    alerts,
    complaint,
    needs_promtool,
    rules,
)

CASES = sorted((Path(__file__).parent / "rules").glob("*.yml"))
RUNBOOKS = DEPLOY / "runbooks"
SECTIONS = ["What it means", "How urgent", "Look first", "Mend it", "Silence it"]


def claims() -> list[tuple[str, bool]]:
    """Return each claim of the cases: an alert, and whether it fires."""
    found = []
    for path in CASES:
        tests: list[dict[str, Any]] = yaml.safe_load(path.read_text())["tests"]
        for test in tests:
            for claim in test["promql_expr_test"]:
                (alert,) = re.findall(r'alertname="(\w+)"', claim["expr"])
                assert test["name"].startswith(f"{alert}: ")
                found.append((alert, bool(claim["exp_samples"])))
    return found


@needs_promtool
def test_promtool_finds_nothing_to_complain_about() -> None:
    assert complaint("promtool", "check", "config", PROMETHEUS) == ""
    assert complaint("promtool", "check", "rules", "--lint=all", "--lint-fatal", *RULES) == ""


@needs_promtool
@pytest.mark.parametrize("cases", CASES, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_not_otherwise(cases: Path) -> None:
    assert complaint("promtool", "test", "rules", cases) == ""


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    names = {alert.name for alert in alerts()}
    assert {alert for alert, fires in claims() if fires} == names
    assert {alert for alert, fires in claims() if not fires} == names


def test_every_rule_has_a_name_of_its_own() -> None:
    names = [rule.name for rule in rules()]
    assert len(set(names)) == len(names)


def test_records_are_named_by_level_metric_and_operation() -> None:
    records = [rule.name for rule in rules() if not rule.annotations]
    assert records
    assert all(re.fullmatch(r"[a-z_]+:[a-z0-9_]+:[a-z0-9_]+", name) for name in records)


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_an_alert_says_how_urgent_it_is_what_it_means_and_where_to_read_on(alert: Rule) -> None:
    assert alert.labels["severity"] in {"page", "ticket"}
    assert set(alert.annotations) == {"summary", "description", "runbook_url"}
    page = f"{alert.name}.md"
    assert alert.annotations["runbook_url"] == f"{{{{ $externalLabels.runbooks }}}}/{page}"
    text = (RUNBOOKS / page).read_text()
    assert text.startswith(f"# {alert.name} ({alert.labels['severity']})\n")
    assert re.findall(r"^## (.*)", text, re.MULTILINE) == SECTIONS
    assert f"alertname={alert.name}" in text


def test_every_runbook_is_of_an_alert() -> None:
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == {alert.name for alert in alerts()}


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("*.md")), ids=lambda path: path.stem)
def test_the_commands_and_pages_that_a_runbook_names_exist(page: Path) -> None:
    commands = typer.main.get_group(app).commands
    text = page.read_text()
    for verb, words in re.findall(r"`mad ([a-z]+)([^`]*)`", text):
        options = {name for option in commands[verb].params for name in option.opts}
        assert set(re.findall(r"--[a-z-]+", words)) <= options | {"--help"}
    for alert in re.findall(r"\bMad[A-Z]\w+", text):
        assert (RUNBOOKS / f"{alert}.md").is_file()
