"""How to fit, and which trusted inputs are for what."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Int64
from torch import Tensor

from mad.calibration.conformal import required_reference
from mad.errors import ConfigError
from mad.scoring import ContextRule


@final
@dataclass(frozen=True, kw_only=True)
class FitPlan:
    """How to fit a baseline.

    ``reference_share`` is the share of trusted inputs held out. ``neighbours`` is how many trusted
    activations a site keeps to compare with, at most; fewer than 20 are none.
    """

    name: str
    false_alarm_rate: float = 0.01
    reference_share: float = 0.4
    context: ContextRule = "predicted"
    neighbours: int = 5_000
    batch_size: int = 256
    seed: int = 0


@final
@dataclass(frozen=True)
class Split:
    """Rows of the trusted data, ascending and disjoint."""

    fitting: Int64[Tensor, " fitting"]
    reference: Int64[Tensor, " reference"]


def split(count: int, plan: FitPlan) -> Split:
    """Divide trusted inputs at random.

    Raises:
        ConfigError: the reference would be too small for the false-alarm rate; says how many
            trusted inputs are needed.
    """
    held_out = int(count * plan.reference_share)
    needed = required_reference(plan.false_alarm_rate)
    if held_out < needed or count - held_out < 2:  # noqa: PLR2004  # a spread needs two
        total = max(int(needed / plan.reference_share) + 1, held_out + 2)
        raise ConfigError(
            f"{count} trusted inputs leave a reference of {held_out}, and a false-alarm rate of "
            f"{plan.false_alarm_rate:g} needs {needed}: give at least {total} trusted inputs, or "
            "raise the rate or the reference share"
        )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(plan.seed))
    return Split(order[held_out:].sort().values, order[:held_out].sort().values)
