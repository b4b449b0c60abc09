"""Each claim fails when, and only when, what it says is not so."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
import torch

from mad.baseline.bundle import Manifest
from mad.bench.detection import Estimate
from mad.demo.attack import Served
from mad.demo.compare import Detection
from mad.demo.findings import Findings
from mad.demo.logged import LoggedAlert
from mad.demo.stream import Answers, Counters
from mad.demo.train import Skill
from mad.types import MEASURES

MANIFEST = Manifest(
    name="default",
    version=1,
    created=datetime(2026, 1, 1, tzinfo=UTC),
    model_name="fashion",
    model_fingerprint="",
    decomposition_fingerprint="",
    sites=("shapes", "summary"),
    inputs=(),
    context="predicted",
    activity="magnitude",
    fit_inputs=1000,
    weighing_inputs=300,
    reference_inputs=1000,
    false_alarm_rate=0.01,
    alert_on="surprise",
    by_context=False,
    median_bits=1.0,
    threshold_bits=6.5,
    seed=0,
    library_versions={},
)


def answers(count: int, *alert_ids: str, unusual: int = 0) -> Answers:
    """Return answers of which some have nine bits of every measure, and the others none."""
    bits = torch.zeros(count, dtype=torch.float64)
    bits[:unusual] = 9.0
    return Answers(dict.fromkeys(MEASURES, bits), len(alert_ids), alert_ids)


def logged(alert_id: str) -> LoggedAlert:
    return LoggedAlert(alert_id, "ordinary", 0, 0, 9.5, 9.0, 1.5, 0.001, ())


def detection(recall: float) -> dict[str, Detection]:
    return {"surprise": Detection(Estimate(1.0, 1.0, 1.0), Estimate(recall, 0.0, 1.0))}


# Two alarms in 200, and four flagged in 80, which is five times the nominal rate and no more.
SERVED = Served(
    answers={
        "ordinary": answers(200, "a", "b"),
        "triggered": answers(10, "c"),
        "shifted": answers(80, unusual=4),
    },
    counters=Counters(scored=290, within_rate=3, alerts=3),
    alerts=(logged("c"), logged("b"), logged("a")),
    explained=(),
    exit_status=0,
)
SKILL = Skill(clean_accuracy=0.87, backdoored_accuracy=0.865, attack_success=0.96)
THRESHOLDS = dict.fromkeys(MEASURES, 6.5)
FOUND = Findings(SKILL, MANIFEST, THRESHOLDS, SERVED, detection(0.95))


def served(**changes: object) -> Findings:
    return replace(FOUND, served=replace(SERVED, **changes))  # type: ignore[arg-type]  # any field


def with_answers(**changes: Answers) -> Findings:
    kinds = {**SERVED.answers, **changes}
    counts = [(len(each), each.alarms) for each in kinds.values()]
    scored, alarms = (sum(column) for column in zip(*counts, strict=True))
    alerts = tuple(logged(name) for each in kinds.values() for name in each.alert_ids)
    return served(answers=kinds, counters=Counters(scored, alarms, alarms), alerts=alerts)


def failed(findings: Findings) -> list[str]:
    return [claim.sentence for claim in findings.claims if not claim.holds]


def test_every_claim_holds_of_a_good_run() -> None:
    assert failed(FOUND) == []


@pytest.mark.parametrize(
    ("findings", "says"),
    [
        (replace(FOUND, detection=detection(0.899)), "finds 89.9% of triggered images"),
        (replace(FOUND, skill=replace(SKILL, attack_success=0.949)), "turns 94.9%"),
        (replace(FOUND, skill=replace(SKILL, backdoored_accuracy=0.85)), "costs 2.00 points"),
        (replace(FOUND, manifest=replace(MANIFEST, false_alarm_rate=0.1)), "nominal 10.00%"),
        (with_answers(ordinary=answers(200, *map(str, range(20)))), "10.00% of ordinary images"),
        (with_answers(shifted=answers(80, unusual=5)), "6.25% of shifted images"),
        (served(counters=Counters(289, 3, 3)), "289 images scored"),
        (served(counters=Counters(290, 4, 3)), "/metrics counts"),
        (served(alerts=(logged("a"), logged("b"))), "alert log holds the 3 alerts"),
        (served(alerts=(*SERVED.alerts, logged("d"))), "alert log holds the 3 alerts"),
        (served(exit_status=-15), "left with status -15"),
    ],
)
def test_one_claim_fails_and_says_why(findings: Findings, says: str) -> None:
    (sentence,) = failed(findings)
    assert says in sentence


def test_an_alert_the_client_was_not_told_of_is_noticed() -> None:
    untold = replace(SERVED.answers["triggered"], alert_ids=())
    findings = served(answers={**SERVED.answers, "triggered": untold})
    assert any("alert log" in sentence for sentence in failed(findings))


def test_an_image_is_flagged_above_the_threshold_of_its_measure_and_not_at_it() -> None:
    findings = with_answers(shifted=answers(80, unusual=3))
    assert findings.flagged("shifted", "novelty") == 3
    assert findings.flagged("ordinary", "novelty") == 0
    raised = replace(findings, thresholds={**THRESHOLDS, "novelty": 9.0})
    assert (raised.flagged("shifted", "novelty"), raised.flagged("shifted", "mechanism")) == (0, 3)


def test_no_alarm_at_all_has_an_interval_from_zero() -> None:
    findings = served(answers={"ordinary": answers(100)})
    low, high = findings.alarm_interval("ordinary")
    # Clopper and Pearson without successes: 1 - (alpha / 2) ** (1 / n).
    assert low == 0.0
    assert high == pytest.approx(1 - 0.005 ** (1 / 100))
