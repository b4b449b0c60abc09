"""Explanations name what was planted, and taking that away gives the trusted answer back."""

from functools import cache

import pytest
from scipy.stats import binomtest

from mad.counterfactual import Counterfactual, counterfactuals
from mad.effects import by_effect, differentiated
from mad.fit import FitPlan
from mad.monitor import Monitor
from mad.types import Charge
from tests.planted import (
    CONTEXTS,
    KINDS,
    SITE,
    TARGET,
    Kind,
    Planted,
    planted,
    planted_monitor,
    trusted,
)

COUNT = 40


@cache
def monitor() -> Monitor:
    return planted_monitor(FitPlan(name="planted"))


@cache
def anomalies(kind: Kind) -> Planted:
    return planted(kind, COUNT, seed=5)


def is_planted(charge: Charge, wanted: Planted, row: int) -> bool:
    """Whether a charge names something planted."""
    return charge.term in wanted.terms and charge.index in wanted.indices[row]


def without(kind: Kind, what: str) -> list[Counterfactual]:
    """Return one counterfactual an anomaly: without the components named, or the residual."""
    found = []
    for x in anomalies(kind).x.split(1):
        _, explanation = monitor().explain({"x": x}, max_charges=20)
        scorer = monitor().scorer
        made = counterfactuals(scorer.model, scorer.decomposition, {"x": x}, explanation)
        found += [one for one in made if one.what == what]
    return found


def test_trusted_inputs_of_the_planted_world_are_ordinary() -> None:
    x, _ = trusted(2_000, seed=3)
    alerts = sum(verdict.is_alert for verdict in monitor().judge({"x": x}).verdicts)
    # The rate given one reference of 1,600 spreads by 0.0025 around 0.01; allow four of them.
    assert binomtest(alerts, 2_000, 0.02, alternative="greater").pvalue > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_planted_anomalies_raise_alerts(kind: Kind) -> None:
    verdicts = monitor().judge({"x": anomalies(kind).x}).verdicts
    assert sum(verdict.is_alert for verdict in verdicts) >= 0.95 * COUNT


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("max_charges", [5, 20])
def test_an_explanation_begins_with_what_was_planted(kind: Kind, max_charges: int) -> None:
    wanted = anomalies(kind)
    hits = sum(
        is_planted(charge, wanted, row)
        for row, x in enumerate(wanted.x.split(1))
        for charge in monitor().explain({"x": x}, max_charges=max_charges)[1].charges[:5]
    )
    assert hits / (5 * COUNT) >= 0.95


def test_without_the_planted_components_the_model_gives_the_trusted_answer() -> None:
    wanted = anomalies("unfamiliar")
    made = without("unfamiliar", "components")
    restored = [
        (one.label_before, one.label_after) == (TARGET, context) and set(one.removed) <= indices
        for one, context, indices in zip(made, wanted.context.tolist(), wanted.indices, strict=True)
        # Contexts beside it share features with the planted answer, and speak for it themselves.
        if context not in (TARGET, TARGET + 1, CONTEXTS - 1)
    ]
    assert len(restored) > COUNT / 2
    assert sum(restored) >= 0.95 * len(restored)


def test_without_the_residual_a_hidden_direction_has_no_say() -> None:
    wanted = anomalies("hidden")
    made = without("hidden", "residual")
    assert len(made) == COUNT
    labels = [(one.label_before, one.label_after) for one in made]
    assert labels == [(TARGET, context) for context in wanted.context.tolist()]


def test_components_that_do_not_make_the_answer_are_taken_away_without_changing_it() -> None:
    made = without("combined", "components")
    assert len(made) == COUNT
    assert sum(not one.is_changed for one in made) >= 0.95 * COUNT


def test_the_answer_owes_most_to_what_was_planted_to_change_it() -> None:
    wanted = anomalies("unfamiliar")
    scorer = monitor().scorer
    slopes = differentiated(scorer.model, scorer.decomposition, {"x": wanted.x})
    found = by_effect(scorer.decomposition, slopes, keep=5)[SITE]
    hits = sum(
        len(indices & set(found.row(row).components.tolist()))
        for row, indices in enumerate(wanted.indices)
        if wanted.context[row] != TARGET
    )
    assert hits >= 0.95 * 5 * int((wanted.context != TARGET).sum())
