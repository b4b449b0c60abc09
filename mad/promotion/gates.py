"""The gates: what was measured of a candidate, what it is held against, and a sentence on each."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final

import torch
from scipy.special import bdtr

from mad.baseline.bundle import Baseline, Provenance
from mad.calibration.conformal import attainable_rate, required_reference
from mad.calibration.health import Health, examine
from mad.errors import GateError
from mad.promotion.drift import drift
from mad.promotion.exam import Seen
from mad.types import MEASURES, PValues

Name: TypeAlias = Literal["reference", "p_values_uniform", "canaries", "drift", "quarantine"]

CONFIDENCE: Final = 0.999
"""Ordinary candidates fail one of the tests of chance about twice in a thousand promotions."""

_ROUNDING: Final = 1e-12


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a candidate is held against; see the settings.

    ``quarantine_rate`` is the share of ordinary inputs that a fit sets aside, by chance.
    """

    max_canary_loss: float = 0.01
    max_drift_bits: float = 0.25
    max_quarantine_factor: float = 3.0
    quarantine_rate: float = 0.001


@final
@dataclass(frozen=True, slots=True)
class Gate:
    """One thing that promotion asks of a version."""

    name: Name
    is_passed: bool
    value: float
    bound: float
    sentence: str


def judged(
    candidate: Baseline,
    active: Baseline | None,
    provenance: Provenance,
    seen: Sequence[Seen],
    bounds: Bounds,
) -> tuple[Gate, ...]:
    """Return every gate; ``active`` is what the candidate would replace, None for a first one."""
    return (
        _reference(candidate),
        _uniform(candidate, seen),
        _canaries(candidate, active, seen, bounds),
        _drift(candidate, active, bounds),
        _quarantine(provenance, bounds),
    )


def refuse(revision: str, gates: Sequence[Gate]) -> None:
    """Raise GateError, with the sentences of the gates that a version does not pass, if any."""
    failed = [f"{gate.name}: {gate.sentence}" for gate in gates if not gate.is_passed]
    if failed:
        raise GateError(f"{revision} does not pass {'; '.join(failed)}")


def halves(baseline: Baseline, *, confidence: float = 0.99) -> Health:
    """Hold later reference inputs against earlier ones: a drift among them breaks the promise."""
    manifest = baseline.manifest
    measured = baseline.references[MEASURES.index(manifest.alert_on)]
    earlier, later = measured.tensor_split(2)
    rate = max(manifest.false_alarm_rate, attainable_rate(len(earlier)))
    return examine(later, earlier.sort().values, false_alarm_rate=rate, confidence=confidence)


def _reference(candidate: Baseline) -> Gate:
    manifest = candidate.manifest
    size = candidate.reference.numel()
    least, rate = attainable_rate(size), manifest.false_alarm_rate
    is_finite = bool(candidate.references.isfinite().all()) and (
        manifest.by_context or math.isfinite(manifest.threshold_bits)
    )
    text = f"{size} reference inputs reach a false-alarm rate of {least:.2g}, and {rate:g} is asked"
    if least > rate:
        text += f", which needs {required_reference(rate)}"
    if not is_finite:
        text += "; some of their surprises are no finite numbers"
    return Gate("reference", least <= rate and is_finite, least, rate, text)


def _uniform(candidate: Baseline, seen: Sequence[Seen]) -> Gate:
    """Hold trusted inputs, and the later half of the reference, against what is promised of them.

    The value is the smaller chance of such a gap between distributions, by Kolmogorov and Smirnov.
    """
    found = {"the reference's later half, by its earlier": halves(candidate, confidence=CONFIDENCE)}
    trusted = [one.bits for one in seen if one.role == "trusted"]
    if trusted:
        found["held-out trusted inputs"] = examine(
            torch.cat(trusted),
            candidate.reference,
            false_alarm_rate=candidate.manifest.false_alarm_rate,
            confidence=CONFIDENCE,
        )
    bad = {what: health for what, health in found.items() if not _is_ordinary(health)}
    text = "; ".join(f"{what}: {health.verdict}" for what, health in (bad or found).items())
    if not trusted:
        text += "; no held-out trusted inputs are named in promotion.trusted"
    least = min(health.drift_p_value for health in found.values())
    return Gate("p_values_uniform", not bad, least, 1 - CONFIDENCE, text)


def _is_ordinary(health: Health) -> bool:
    return not health.has_drifted and health.standing == "as promised"


def _canaries(
    candidate: Baseline, active: Baseline | None, seen: Sequence[Seen], bounds: Bounds
) -> Gate:
    """Compare the shares of planted anomalies that both detect, each at its own rate."""
    own = [one.p_values for one in seen if one.role == "canaries"]
    if not own:
        text = "not asked: no planted anomalies are named in promotion.canaries"
        return Gate("canaries", True, 0.0, 0.0, text)  # as the wire has it
    share = _detected(torch.cat(own), candidate)
    count = sum(map(len, own))
    text = f"{share:.1%} of {count} planted anomalies detected"
    theirs = [one.active_p_values for one in seen if one.role == "canaries"]
    others = [p for p in theirs if p is not None]
    if active is None or len(others) < len(theirs):
        return Gate("canaries", True, share, 0.0, f"{text}; none is active to compare with")
    before = _detected(torch.cat(others), active)
    least = max(before - bounds.max_canary_loss, 0.0)
    text += f", and {before:.1%} by {active.revision}; at least {least:.1%} are asked"
    return Gate("canaries", share >= least - _ROUNDING, share, least, text)


def _detected(p: PValues, baseline: Baseline) -> float:
    return float((p <= baseline.manifest.false_alarm_rate).double().mean())


def _drift(candidate: Baseline, active: Baseline | None, bounds: Bounds) -> Gate:
    """See ``drift`` for why this is what poison moves."""
    if active is None:
        text = "not asked: none is active to compare with"
        return Gate("drift", True, 0.0, bounds.max_drift_bits, text)
    found = drift(active, candidate)
    if found is None:
        text = (
            "not asked: the two have other dictionaries, or keep no trusted directions "
            "(baseline.neighbours)"
        )
        return Gate("drift", True, 0.0, bounds.max_drift_bits, text)
    most = bounds.max_drift_bits + found.chance_bits
    text = (
        f"{active.revision} finds what this one has learnt from {found.bits:+.2f} bits an input "
        f"rarer than ordinary, at {found.site}; at most {bounds.max_drift_bits:g} and "
        f"{found.chance_bits:.2f} for chance are allowed"
    )
    return Gate("drift", found.bits <= most, found.bits, most, text)


def _quarantine(provenance: Provenance, bounds: Bounds) -> Gate:
    """Hold the share that the active baseline found surprising against what chance explains."""
    inputs, aside = provenance.inputs, provenance.quarantined_inputs
    rate = min(bounds.quarantine_rate * bounds.max_quarantine_factor, 1.0)
    if not inputs or not bounds.quarantine_rate:
        text = "not asked: nothing is known of inputs set aside before its fit"
        return Gate("quarantine", True, 0.0, rate, text)
    most = (
        bisect_left(range(inputs), CONFIDENCE, key=lambda k: float(bdtr(k, inputs, rate))) / inputs
    )
    text = (
        f"{aside} of {inputs} inputs ({aside / inputs:.2%}) were set aside as surprising; chance "
        f"explains {bounds.quarantine_rate:.2%}, and at most {most:.2%} are allowed"
    )
    return Gate("quarantine", aside / inputs <= most + _ROUNDING, aside / inputs, most, text)
