"""One anomaly of a known model and a decomposition in; how well it is found and named out."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias, final

import torch
from jaxtyping import Float64
from torch import Tensor

from mad.arrays import Table
from mad.bench.detection import Tally, auroc, recall_at
from mad.bench.truth.base import Truth
from mad.bench.truth.cases import Cases
from mad.bench.truth.matching import FOUND, match
from mad.components.base import Decomposition
from mad.fit import FitPlan, fit
from mad.fit.plan import SetCodeName
from mad.judgement import Judgement
from mad.monitor import Monitor
from mad.types import MECHANISM_TERMS, Explanation, Inputs, Measure, Progress, View

Source: TypeAlias = Literal["known", "full", "trusted"]
"""Where components come from: the truth, or a decomposition trained on all or on trusted inputs."""

SAMPLE: Final = 8_192
"""Inputs of all kinds on which components are matched with mechanisms."""


@final
@dataclass(frozen=True)
class Row:
    """What one anomaly of one model came to.

    ``causal`` is the share of mechanisms with a component that is active where they are, ``local``
    of those with one that is active where they are on, ``found`` of those with either, and
    ``culprits_found`` says whether all of the anomaly's are found. Recalls are at 1 % false alarms
    among ordinary inputs, or among those that use as many mechanisms as anomalies do (``matched``),
    by the measure that alerts go by. ``alerts`` is the share of anomalies that alert, and ``named``
    the share of those whose explanation has a culprit before other mechanisms.
    """

    model: str
    seed: int
    source: Source
    kind: str
    anomaly: str
    found: float
    causal: float
    local: float
    culprits_found: bool
    auroc_matched: float
    recall: float
    recall_matched: float
    false_alarms: float
    alerts: float
    named: float
    cpu_seconds: float


def measure(  # noqa: PLR0913  # what is measured, with what, and how it is watched
    cases: Cases,
    decomposition: Decomposition,
    source: Source,
    *,
    by: Measure,
    set_code: SetCodeName,
    seed: int,
    progress: Progress,
) -> Row:
    """Fit a baseline to trusted inputs, and judge all others."""
    start = time.process_time()
    truth, anomaly = cases.truth, cases.anomaly
    matching = match(truth, decomposition, _of_all_kinds(truth, seed))
    plan = FitPlan(name="truth", context="none", alert_on=by, set_code=set_code, seed=seed)
    data = Table(cases.trusted)
    baseline = fit(
        truth.model, decomposition, data, plan, created=datetime.now(UTC), progress=progress
    )
    monitor = Monitor.bind(truth.model, decomposition, baseline)
    ordinary, matched, odd = (
        monitor.judge(inputs) for inputs in (cases.ordinary, cases.matched, cases.anomalous)
    )
    against_matched = _tally(matched, odd, by)
    culprits = set(anomaly.culprits)
    names = matching.stands_for
    named = [bool(_first(one, names) & culprits) for one in odd.explanations.values()]
    return Row(
        model=truth.name,
        seed=seed,
        source=source,
        kind=anomaly.kind,
        anomaly=anomaly.name(truth),
        found=float(matching.found.double().mean()),
        causal=float((matching.causal >= FOUND).double().mean()),
        local=float((matching.local >= FOUND).double().mean()),
        culprits_found=bool(matching.found[list(anomaly.culprits)].all()),
        auroc_matched=float(auroc(against_matched)),
        recall=float(recall_at(_tally(ordinary, odd, by), rate=0.01)),
        recall_matched=float(recall_at(against_matched, rate=0.01)),
        false_alarms=len(ordinary.explanations) / len(ordinary.verdicts),
        alerts=len(named) / len(odd.verdicts),
        named=sum(named) / max(len(named), 1),
        cpu_seconds=time.process_time() - start,
    )


def _of_all_kinds(truth: Truth, seed: int) -> Inputs:
    return truth.draw(SAMPLE, torch.Generator().manual_seed(seed + 1))


def _tally(normal: Judgement, odd: Judgement, by: Measure) -> Tally:
    return Tally.of(*(_bits(one, by).numpy() for one in (normal, odd)))


def _bits(judged: Judgement, by: Measure) -> Float64[Tensor, " batch"]:
    bits = [getattr(verdict, f"{by}_bits") for verdict in judged.verdicts]
    return torch.tensor(bits, dtype=torch.float64)


def _first(
    explanation: Explanation, names: Mapping[tuple[View, int], frozenset[int]]
) -> frozenset[int]:
    """Return the mechanisms that an explanation names first; none if it names none."""
    told = (
        names[charge.site, charge.index]
        for charge in explanation.charges
        if charge.term in MECHANISM_TERMS and (charge.site, charge.index) in names
    )
    return next(told, frozenset())
