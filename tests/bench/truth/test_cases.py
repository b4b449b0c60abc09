"""Anomalies of a known model: trusted inputs are none, and a perfect detector finds them all."""

from functools import cache

import pytest
import torch
from torch import Tensor

from mad.bench.detection import Tally, auroc, recall_at
from mad.bench.tasks import INPUT
from mad.bench.truth.base import AnomalyKind
from mad.bench.truth.cases import Cases, choose, draw_cases
from mad.bench.truth.circuits import random_circuit
from mad.bench.truth.gates import circuit_truth
from mad.bench.truth.known import Known, activity_of
from mad.bench.truth.network import handcoded
from mad.capture.hooks import capture
from mad.codes.base import Code
from mad.codes.sets.chow_liu import TreeCode
from mad.codes.sets.independent import IndependentCode
from mad.codes.sets.worst_pair import WorstPairCode
from mad.codes.statistics import KeptSets, SetCounts
from mad.errors import ConfigError
from mad.types import Activity, Inputs

TRUSTED, TESTS = 2_000, 200
KINDS: tuple[AnomalyKind, ...] = ("mechanism", "pair", "reason")


@cache
def cases(kind: AnomalyKind, seed: int = 0) -> Cases:
    truth = circuit_truth(seed=seed)
    anomaly = choose(truth, kind, trusted=TRUSTED, seed=seed)
    return draw_cases(truth, anomaly, trusted=TRUSTED, tests=TESTS, seed=seed)


@pytest.mark.parametrize("kind", KINDS)
def test_only_anomalies_are_what_trusted_inputs_never_are(kind: AnomalyKind) -> None:
    found = cases(kind)
    truth, anomaly = found.truth, found.anomaly
    for ordinary in (found.trusted, found.ordinary, found.matched):
        assert not anomaly.matches(truth.on(ordinary)).any()
    assert anomaly.matches(truth.on(found.anomalous)).all()
    assert truth.active(found.anomalous)[:, list(anomaly.uses)].all()
    assert len(found.trusted[INPUT]) == TRUSTED


@pytest.mark.parametrize("kind", KINDS)
def test_matched_inputs_use_as_many_mechanisms_as_anomalies(kind: AnomalyKind) -> None:
    found = cases(kind)
    counts = [
        found.truth.active(inputs).sum(dim=1).sort().values
        for inputs in (found.matched, found.anomalous)
    ]
    assert counts[0].equal(counts[1])


def test_a_pair_is_common_apart() -> None:
    found = cases("pair")
    used = found.truth.active(found.trusted)[:, list(found.anomaly.uses)]
    assert float(used.double().mean(dim=0).prod()) * TRUSTED >= 45
    beside = found.truth.active(found.matched)[:, list(found.anomaly.uses)]
    assert (beside.sum(dim=1) == 1).all()


def test_another_reason_gives_answers_that_matched_inputs_give_too() -> None:
    found = cases("reason")
    given = [
        found.truth.model.module(inputs[INPUT]).round().unique(dim=0)
        for inputs in (found.matched, found.anomalous)
    ]
    assert given[0].equal(given[1])


def used(found: Cases, inputs: Inputs) -> Activity:
    """Return which gates are active, by ablation."""
    active = found.truth.active(inputs)
    nothing = torch.zeros(len(active), 0)
    return activity_of(active, active.float(), residual=nothing, activation=nothing)


def scores(found: Cases, kind: str) -> tuple[Tensor, Tensor]:
    """Return what a code of the true active sets charges matched inputs, and anomalies."""
    trusted = used(found, found.trusted)
    context = torch.full((len(trusted),), -1)
    rows = torch.arange(len(trusted))
    counts = SetCounts.of(trusted, context)
    kept = KeptSets.of(trusted, context, rows=rows, keep=torch.ones(len(trusted)).bool())
    code: Code
    match kind:
        case "independent":
            code = IndependentCode.fit(counts)
        case "tree":
            code = TreeCode.fit(kept, counts)
        case _:
            code = WorstPairCode.fit(kept, counts)
    tests = [used(found, inputs) for inputs in (found.matched, found.anomalous)]
    ends = [code.lengths(one, torch.full((len(one),), -1)) for one in tests]
    return ends[0], ends[1]


@pytest.mark.parametrize(
    ("kind", "code"),
    [("mechanism", "independent"), ("pair", "worst pair"), ("reason", "tree")],
)
def test_the_true_active_sets_tell_all_anomalies(kind: AnomalyKind, code: str) -> None:
    matched, anomalous = scores(cases(kind), code)
    tally = Tally.of(matched.numpy(), anomalous.numpy())
    assert float(auroc(tally)) > 0.999
    assert float(recall_at(tally, rate=0.01)) == 1.0


def test_the_known_decomposition_sees_the_gates_that_are_on() -> None:
    found = cases("pair")
    known = Known.of_circuit(handcoded(random_circuit(seed=0), seed=0))
    run = capture(found.truth.model, known.sites, found.anomalous)
    activity = known.activity(run.activations)[known.site]
    seen = torch.zeros(len(activity), 16, dtype=torch.bool)
    seen[activity.rows, activity.components] = True
    assert seen.equal(found.truth.on(found.anomalous))


def test_a_truth_is_a_task_with_matched_inputs_for_a_benign_shift() -> None:
    found = cases("pair")
    task = found.task
    assert task.name == "circuit 0, pair"
    assert task.tests["benign_shift"] is found.matched
    assert task.sites == ("streams.0", "streams.1", "streams.2")


def test_too_few_trusted_inputs_for_a_pair_are_refused() -> None:
    with pytest.raises(ConfigError, match="more trusted inputs"):
        choose(circuit_truth(seed=0), "pair", trusted=100, seed=0)
