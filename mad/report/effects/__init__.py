"""How well estimates of effects agree with running the model again, on trusted inputs."""

from mad.report.effects.agreement import Agreement, Curve, Pairs
from mad.report.effects.flow import EffectsPlan, EffectsReport, Reference, compare

__all__ = [
    "Agreement",
    "Curve",
    "EffectsPlan",
    "EffectsReport",
    "Pairs",
    "Reference",
    "compare",
]
