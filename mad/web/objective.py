"""The promised false-alarm rate as an objective: what recent traffic of each kind says of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final

from mad.calibration.health import Interval
from mad.metrics import TRAFFIC, Traffic

# As the shipped alerts MadCalibrationDoubtful and MadCalibrationLost have them.
DOUBTFUL_LOG10: Final = 2.0
LOST_LOG10: Final = 4.0

Samples: TypeAlias = Mapping[str, Sequence[tuple[Mapping[str, str], float]]]


@final
@dataclass(frozen=True, slots=True)
class Objective:
    """What recent inputs of one kind of traffic, under one baseline, say of its promise.

    ``share`` of them is at or under ``alpha``, and ``likely`` holds the true share with 99 %
    confidence. ``drift_bits`` is how far the use of components has moved at the ``site`` where it
    has moved furthest, an input; None for planted anomalies. Of trusted traffic alone, there are
    the largest ``gap`` between its p-values and the reference's, over ``inputs``, and the
    logarithm to base 10 of the ``wealth`` of a gambler who bets against the promise: by chance it
    ever exceeds ``c`` once in ``10 ** c``.
    """

    baseline: str
    traffic: Traffic
    alpha: float
    share: float
    likely: Interval
    drift_bits: float | None
    site: str
    gap: float | None
    inputs: int | None
    wealth: float | None

    @property
    def standing(self) -> Literal["kept", "doubtful", "lost", ""]:
        """Say whether the promise is kept; only trusted traffic can tell."""
        if self.wealth is None:
            return ""
        if self.wealth > LOST_LOG10:
            return "lost"
        return "doubtful" if self.wealth > DOUBTFUL_LOG10 else "kept"


def objectives(samples: Samples) -> Iterator[Objective]:
    """Read them from the samples of a registry, for baselines and kinds that have been seen."""
    for labels, alpha in samples.get("mad_baseline_alpha_ratio", []):
        for traffic in TRAFFIC:
            at = {"baseline": labels["baseline"], "traffic": traffic, "alpha": f"{alpha:g}"}
            share = _one(samples, "mad_calibration_observed_ratio", at)
            if share is not None:
                yield _objective(samples, at, traffic=traffic, alpha=alpha, share=share)


def _objective(
    samples: Samples, at: Mapping[str, str], *, traffic: Traffic, alpha: float, share: float
) -> Objective:
    baseline = at["baseline"]
    low = _one(samples, "mad_calibration_observed_low_ratio", at)
    high = _one(samples, "mad_calibration_observed_high_ratio", at)
    drifts = [
        (value, labels["site"])
        for labels, value in samples.get("mad_component_drift_shannons", [])
        if labels["baseline"] == baseline and labels["traffic"] == traffic
    ]
    drift_bits, site = max(drifts, default=(None, ""))
    gap, inputs, wealth = (
        _one(samples, name, {"baseline": baseline}) if traffic == "trusted" else None
        for name in (
            "mad_calibration_ks_ratio",
            "mad_calibration_window_samples",
            "mad_calibration_wealth_log10",
        )
    )
    return Objective(
        baseline=baseline,
        traffic=traffic,
        alpha=alpha,
        share=share,
        likely=Interval(low or 0.0, 1.0 if high is None else high),
        drift_bits=drift_bits,
        site=site,
        gap=gap,
        inputs=None if inputs is None else round(inputs),
        wealth=wealth,
    )


def _one(samples: Samples, name: str, at: Mapping[str, str]) -> float | None:
    """Return the value of the sample with these labels, among others."""
    return next(
        (value for labels, value in samples.get(name, []) if at.items() <= labels.items()), None
    )
