"""One method's scores of a task in, its figures with 95 % intervals out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64
from torch import Tensor

from mad.bench.detection import CONFIDENCE, FIGURES, Estimate, estimate
from mad.calibration.conformal import p_values
from mad.calibration.health import binomial_interval
from mad.types import Reference

ALPHA = 0.01
"""The nominal false-alarm rate at which realised rates are counted."""


@final
@dataclass(frozen=True)
class Measured:
    """What one method said of a task's inputs, and what that took.

    ``scores`` are by the names of ``Task.tests``, and those of trusted inputs that were held out
    from the fit under ``reference``. mad's are surprises in bits; a peer's have no unit.
    """

    scores: Mapping[str, Float64[Tensor, " batch"]]
    fit_seconds: float
    ms_per_1000: float


@final
@dataclass(frozen=True)
class Figures:
    """One method on one task; an estimate is None where the task's inputs cannot give it."""

    estimates: Mapping[str, Estimate | None]
    n_calibration: int
    fit_seconds: float
    ms_per_1000: float


def figures(measured: Measured, *, generator: np.random.Generator) -> Figures:
    """Measure how well the scores tell anomalies, and how often ordinary inputs would alarm.

    ``realised_fpr_alpha_01`` and ``shift_flag_rate_alpha_01`` are shares of inputs with a p-value
    of at most 0.01, with exact binomial intervals; the intervals of the others are bootstraps.
    """
    scores = measured.scores
    anomalous = scores["test_anomalous"].numpy()
    reference = scores["reference"].sort().values
    estimates = {
        **estimate(tuple(FIGURES), scores["test_normal"].numpy(), anomalous, generator=generator),
        "auroc_vs_shift": None,
        "shift_flag_rate_alpha_01": None,
        "realised_fpr_alpha_01": _alarm_rate(scores["test_normal"], reference),
    }
    if "benign_shift" in scores:
        shift = scores["benign_shift"]
        against = estimate(("auroc",), shift.numpy(), anomalous, generator=generator)
        estimates["auroc_vs_shift"] = against["auroc"]
        estimates["shift_flag_rate_alpha_01"] = _alarm_rate(shift, reference)
    return Figures(estimates, reference.numel(), measured.fit_seconds, measured.ms_per_1000)


def _alarm_rate(scores: Float64[Tensor, " batch"], reference: Reference) -> Estimate:
    alarms = int((p_values(scores, reference) <= ALPHA).sum())
    interval = binomial_interval(alarms, scores.numel(), confidence=CONFIDENCE)
    return Estimate(alarms / scores.numel(), *interval)
