"""How to fit, and which trusted inputs are for what."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import torch
from jaxtyping import Int64
from torch import Tensor

from mad.calibration.conformal import required_reference
from mad.errors import ConfigError
from mad.scoring import ActivityRule, ContextRule
from mad.types import Measure

SetCodeName: TypeAlias = Literal[
    "clusters",
    "mixture",
    "experts",
    "conditional",
    "independent",
    "tree",
    "nearest_sets",
    "worst_pair",
    "size_index",
]
"""``clusters`` is the Bayes mixture of ``mixture`` and ``experts``."""

MIN_WEIGHING = 20
"""Fewer trusted inputs do not say how rare a length is."""

MAX_WEIGHING = 50_000
"""More would say no more, and their ledgers are held in memory; the others fit codes."""


@final
@dataclass(frozen=True, kw_only=True)
class FitPlan:
    """How to fit a baseline.

    ``weighing_share`` and ``reference_share`` are the shares of trusted inputs held out to say how
    rare each part's bits are, and to calibrate. ``alert_on`` is what alerts and p-values go by;
    ``by_context`` ranks an input among trusted ones of its own context. ``set_code`` is what
    describes active sets, and ``activity`` what makes a component active.
    ``neighbours`` is how many trusted activations a site keeps to compare with, at most; fewer
    than 20 are none. ``magnitudes`` adds a code of how strongly components act, and
    ``residual_by_context`` gives residuals a mean for each context.
    """

    name: str
    false_alarm_rate: float = 0.01
    reference_share: float = 0.25
    weighing_share: float = 0.15
    alert_on: Measure = "surprise"
    by_context: bool = False
    set_code: SetCodeName = "clusters"
    context: ContextRule = "predicted"
    activity: ActivityRule = "magnitude"
    neighbours: int = 5_000
    magnitudes: bool = False
    residual_by_context: bool = False
    batch_size: int = 256
    seed: int = 0


@final
@dataclass(frozen=True)
class Split:
    """Rows of the trusted data, ascending and disjoint."""

    fitting: Int64[Tensor, " fitting"]
    weighing: Int64[Tensor, " weighing"]
    reference: Int64[Tensor, " reference"]

    def without(self, rows: Int64[Tensor, " aside"]) -> "Split":
        """Take rows out of what is learnt from; the reference keeps its own.

        Raises:
            ConfigError: what is left to weigh parts, or to fit codes, is too little.
        """
        fitting = self.fitting[~torch.isin(self.fitting, rows)]
        weighing = self.weighing[~torch.isin(self.weighing, rows)]
        if len(weighing) < MIN_WEIGHING or len(fitting) < 2:  # noqa: PLR2004  # a spread needs two
            raise ConfigError(
                f"with {len(rows)} inputs set aside, {len(weighing)} are left to weigh parts and "
                f"{len(fitting)} to fit codes, and {MIN_WEIGHING} and 2 are needed: look at what "
                "was set aside, or give more trusted inputs"
            )
        return Split(fitting, weighing, self.reference)


def split(count: int, plan: FitPlan) -> Split:
    """Divide trusted inputs at random.

    Raises:
        ConfigError: the reference would be too small for the false-alarm rate, or what is held
            out to weigh parts too small for that; says how many trusted inputs are needed. Or the
            shares leave nothing to fit.
    """
    if plan.reference_share + plan.weighing_share >= 1:
        raise ConfigError(
            f"reference_share {plan.reference_share:g} and weighing_share {plan.weighing_share:g} "
            "leave no trusted inputs to fit codes on: let them add up to less than 1"
        )
    held_out = int(count * plan.reference_share)
    weighing = min(int(count * plan.weighing_share), MAX_WEIGHING)
    needed = required_reference(plan.false_alarm_rate)
    total = max(
        math.ceil(needed / plan.reference_share), math.ceil(MIN_WEIGHING / plan.weighing_share)
    )
    if held_out < needed or weighing < MIN_WEIGHING or count - held_out - weighing < 2:  # noqa: PLR2004  # a spread needs two
        raise ConfigError(
            f"{count} trusted inputs leave {held_out} for the reference and {weighing} to weigh "
            f"parts; a false-alarm rate of {plan.false_alarm_rate:g} needs {needed} and "
            f"{MIN_WEIGHING}: give at least {total} trusted inputs, or raise the rate or the shares"
        )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(plan.seed))
    parts = order.split([held_out, weighing, count - held_out - weighing])
    reference, weighed, fitting = (part.sort().values for part in parts)
    return Split(fitting, weighed, reference)
