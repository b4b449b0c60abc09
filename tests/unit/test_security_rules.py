"""Prometheus tells of probing, refused calls and broken files, and of nothing while all is well."""

from pathlib import Path

import pytest

from tests.unit.test_prometheus_rules import RULES, needs_promtool, promtool

QUIET = {
    'mad_probe_suspicions_total{model="m",reason="near_threshold"}': "3x90",
    'mad_auth_failures_total{model="m",reason="unknown"}': "0+1x90",
    'mad_security_reloads_total{model="m",what="tokens",outcome="failed"}': "1x90",
    'mad_security_reloads_total{model="m",what="tokens",outcome="ok"}': "0+1x90",
    'mad_audit_log_errors_total{model="m"}': "0x90",
}


def complaint(tmp_path: Path, series: dict[str, str], alert: str) -> str:
    """Return what promtool says of the claim that an alert is not firing after an hour."""
    case = tmp_path / "case.yml"
    case.write_text(
        f"rule_files: ['{RULES}']\n"
        "tests:\n"
        "  - interval: 1m\n"
        "    input_series:\n"
        + "".join(
            f"      - {{series: '{name}', values: '{own}'}}\n" for name, own in series.items()
        )
        + "    promql_expr_test:\n"
        f"      - {{expr: 'ALERTS{{alertname=\"{alert}\"}} == 1', eval_time: 60m}}\n"
    )
    return promtool("test", "rules", case)


@needs_promtool
@pytest.mark.parametrize(
    ("alert", "name", "values"),
    [
        (
            "MadProbing",
            'mad_probe_suspicions_total{model="m",reason="near_threshold"}',
            "0x50 1x40",
        ),
        ("MadAuthFailures", 'mad_auth_failures_total{model="m",reason="unknown"}', "0+20x90"),
        (
            "MadSecurityFilesBroken",
            'mad_security_reloads_total{model="m",what="tokens",outcome="failed"}',
            "0x55 1x40",
        ),
        ("MadSecurityFilesBroken", 'mad_audit_log_errors_total{model="m"}', "0x55 1x40"),
    ],
)
def test_a_rule_fires_when_it_should_and_not_before(
    tmp_path: Path, alert: str, name: str, values: str
) -> None:
    assert complaint(tmp_path, QUIET, alert) == ""
    assert 'alertstate="firing"' in complaint(tmp_path, QUIET | {name: values}, alert)
