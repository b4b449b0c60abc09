"""The rules that operators copy: they name series we export, and fire when they say they do."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mad.metrics import TABLE

PROMETHEUS = Path(__file__).parents[2] / "deploy" / "prometheus"
RULES = PROMETHEUS / "alerts.yml"

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed"
)


def promtool(*arguments: object) -> str:
    """Return what promtool complains of; nothing if it is content."""
    run = subprocess.run(
        ["promtool", *map(str, arguments)],  # noqa: S607 - wherever the machine has it
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if run.returncode == 0 else run.stdout + run.stderr


def fired(tmp_path: Path, *, novelty: str, mechanism: str, inputs: str = "0+50x60") -> bool:
    """Say whether a shift is told of, of counters that grow so much a minute for an hour."""
    labels = 'model="demo",baseline="default",traffic="live"'
    case = tmp_path / "case.yml"
    case.write_text(
        f"rule_files: ['{RULES}']\n"
        "tests:\n"
        "  - interval: 1m\n"
        "    input_series:\n"
        + "".join(
            f"      - {{series: '{series}', values: '{values}'}}\n"
            for name, below in (("novelty", novelty), ("mechanism", mechanism))
            for series, values in (
                (f'mad_{name}_shannons_bucket{{{labels},le="7.0"}}', below),
                (f"mad_{name}_shannons_count{{{labels}}}", inputs),
            )
        )
        + "    promql_expr_test:\n"
        "      - {expr: 'ALERTS{alertname=\"MadInputsShifted\"} == 1', eval_time: 60m}\n"
    )
    complaint = promtool("test", "rules", case)
    assert not complaint or 'alertstate="firing"' in complaint
    return bool(complaint)


def test_rules_name_only_series_that_are_exported() -> None:
    exported = {series.name for series in TABLE}
    named = set(re.findall(r"\bmad_\w+", RULES.read_text()))
    assert named
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in named} <= exported


@needs_promtool
def test_promtool_reads_the_configuration_and_its_rules() -> None:
    assert promtool("check", "config", PROMETHEUS / "prometheus.yml") == ""


@needs_promtool
@pytest.mark.parametrize(
    ("novelty", "mechanism", "inputs", "is_told"),
    [
        # Of fifty inputs a minute, so many are within seven bits.
        ("0+45x60", "0+50x60", "0+50x60", True),
        ("0+50x60", "0+50x60", "0+50x60", False),
        ("0+45x60", "0+45x60", "0+50x60", False),
        ("0+50x60", "0+45x60", "0+50x60", False),
        ("0+5x60", "0+10x60", "0+10x60", False),
        ("0x60", "0x60", "0x60", False),
    ],
    ids=["shift", "ordinary", "both", "mechanism alone", "few inputs", "no inputs"],
)
def test_a_shift_is_new_inputs_that_are_worked_on_as_usual(
    tmp_path: Path, novelty: str, mechanism: str, inputs: str, *, is_told: bool
) -> None:
    assert fired(tmp_path, novelty=novelty, mechanism=mechanism, inputs=inputs) is is_told


@needs_promtool
@pytest.mark.parametrize(
    ("errors", "pending", "is_told"),
    [("0x60", "0x60", False), ("0+1x60", "0x60", True), ("3x60", "2x60", True)],
    ids=["written", "failing", "waiting"],
)
def test_an_alert_log_that_cannot_be_written_is_told_of(
    tmp_path: Path, errors: str, pending: str, *, is_told: bool
) -> None:
    case = tmp_path / "case.yml"
    case.write_text(
        f"rule_files: ['{RULES}']\n"
        "tests:\n"
        "  - interval: 1m\n"
        "    input_series:\n"
        f"      - {{series: 'mad_alert_log_errors_total{{model=\"demo\"}}', values: '{errors}'}}\n"
        f"      - {{series: 'mad_alert_log_pending{{model=\"demo\"}}', values: '{pending}'}}\n"
        "    promql_expr_test:\n"
        "      - {expr: 'ALERTS{alertname=\"MadAlertsNotKept\"} == 1', eval_time: 30m}\n"
    )
    complaint = promtool("test", "rules", case)
    assert not complaint or 'alertstate="firing"' in complaint
    assert bool(complaint) is is_told
