"""ReLU with an L_p penalty, 0 < p < 1: nearer to a count, so that strong latents shrink less."""

import math

from torch import Tensor

from mad.components.dictionaries.initial import Start
from mad.components.dictionaries.kinds.relu import Cost, ReLULearner
from mad.components.dictionaries.plan import DictionaryPlan
from mad.errors import ConfigError

_ROUNDED = 0.1
"""Magnitudes far below this share of a typical one cost about in proportion."""

_ANNEALED = 0.5
"""The share of training in which the exponent falls from one to p."""


def begin(start: Start, plan: DictionaryPlan) -> ReLULearner:
    """Own the first weights.

    Raises:
        ConfigError: when the exponent is not between zero and one.
    """
    if not 0 < plan.p < 1:
        raise ConfigError(f"p is {plan.p}; an lp dictionary needs 0 < p < 1, or kind relu for 1")
    return ReLULearner.costing(start, plan, cost=_cost(plan.p))


def _cost(p: float) -> Cost:
    """Charge ``(z + e)^p - e^p``: its slope at zero is finite, at any p.

    The exponent falls from one to p, since the cost is then convex at first and its minimum does
    not depend on where training starts. As a typical magnitude costs about one whatever the
    exponent, the coefficient need not be changed with it.
    """

    def cost(magnitudes: Tensor, progress: float) -> Tensor:
        exponent = 1 + (p - 1) * min(1.0, progress / _ANNEALED)
        return (magnitudes + _ROUNDED).pow(exponent) - math.pow(_ROUNDED, exponent)

    return cost
