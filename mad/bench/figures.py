"""One method's scores of a task in, its figures with intervals out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64
from torch import Tensor

from mad.bench.detection import CONFIDENCE, FIGURES, Estimate, estimate, share
from mad.calibration.conformal import p_values
from mad.calibration.health import Interval, binomial_interval

ALPHA = 0.01
"""The nominal false-alarm rate at which realised rates are counted."""

STRICT = 0.99
"""Confidence of the interval that the nominal rate must lie in."""


@final
@dataclass(frozen=True)
class Measured:
    """What one fit of a method said of a task's inputs, and what that took.

    ``scores`` are by the names of ``Task.tests``, and those of trusted inputs that were held out
    from the fit under ``reference``. mad's are surprises in bits; a peer's have no unit.
    """

    scores: Mapping[str, Float64[Tensor, " batch"]]
    fit_seconds: float
    ms_per_1000: float


@final
@dataclass(frozen=True)
class Figures:
    """One method on one task; an estimate is None where the task's inputs cannot give it.

    ``realised_interval`` is the exact 99 % interval of the realised false-alarm rate.
    """

    estimates: Mapping[str, Estimate | None]
    realised_interval: Interval
    n_calibration: int
    fit_seconds: float
    ms_per_1000: float

    @property
    def keeps_its_promise(self) -> bool:
        """Whether the nominal rate lies in the interval of the realised one."""
        return self.realised_interval.low <= ALPHA <= self.realised_interval.high


def figures(fits: Sequence[Measured], *, seed: int) -> Figures:
    """Measure how well the scores tell anomalies, and how often ordinary inputs would alarm.

    Every figure is a mean over fits, and its interval a bootstrap over inputs and fits.
    ``realised_fpr_alpha_01`` and ``shift_flag_rate_alpha_01`` are shares of inputs with a p-value
    of at most 0.01; of a single fit they have exact binomial intervals.
    """
    normal, anomalous = _stacked(fits, "test_normal"), _stacked(fits, "test_anomalous")
    realised = _alarms(fits, "test_normal")
    estimates = {
        **estimate(tuple(FIGURES), normal, anomalous, seed=seed),
        "auroc_vs_shift": None,
        "shift_flag_rate_alpha_01": None,
        "realised_fpr_alpha_01": _rate(realised, seed=seed),
    }
    if "benign_shift" in fits[0].scores:
        shift = _stacked(fits, "benign_shift")
        estimates["auroc_vs_shift"] = estimate(("auroc",), shift, anomalous, seed=seed)["auroc"]
        estimates["shift_flag_rate_alpha_01"] = _rate(_alarms(fits, "benign_shift"), seed=seed)
    return Figures(
        estimates,
        # Fits share their inputs: three fits of 4,000 inputs tell no more than 4,000 trials.
        binomial_interval(round(realised.sum() / len(fits)), realised.shape[1], confidence=STRICT),
        fits[0].scores["reference"].numel(),
        float(np.mean([one.fit_seconds for one in fits])),
        float(np.mean([one.ms_per_1000 for one in fits])),
    )


def _stacked(fits: Sequence[Measured], test: str) -> Float64[np.ndarray, "fit input"]:
    return np.stack([one.scores[test].numpy() for one in fits])


def _alarms(fits: Sequence[Measured], test: str) -> Float64[np.ndarray, "fit input"]:
    """Say which inputs each fit would raise an alarm on, as ones and zeros."""
    return np.stack(
        [
            (p_values(one.scores[test], one.scores["reference"].sort().values) <= ALPHA)
            .double()
            .numpy()
            for one in fits
        ]
    )


def _rate(alarms: Float64[np.ndarray, "fit input"], *, seed: int) -> Estimate:
    fits, inputs = alarms.shape
    if fits == 1:
        return Estimate(
            float(alarms.mean()),
            *binomial_interval(int(alarms.sum()), inputs, confidence=CONFIDENCE),
        )
    return share(alarms, seed=seed)
