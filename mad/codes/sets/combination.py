"""An active set's bits in two: how rare its components are, and how rare their combination is."""

from dataclasses import dataclass
from typing import final

from jaxtyping import Float64
from torch import Tensor

from mad.codes.base import SetCode
from mad.codes.sets.independent import IndependentCode
from mad.types import Activity, Context


@final
@dataclass(frozen=True)
class Combination:
    """Bits of rare components and of their rare combination, an input or an input and component.

    Law: the two add up to the bits of the code. ``components`` is what independent coins charge,
    and ``combination`` what the code charges beyond; it is negative where components that usually
    go together do.
    """

    components: Float64[Tensor, "batch *component"]
    combination: Float64[Tensor, "batch *component"]


def split_combination(
    code: SetCode, independent: IndependentCode, activity: Activity, context: Context
) -> Combination:
    """Split the length of each active set; as sparse as the codes are."""
    components = independent.lengths(activity, context)
    return Combination(components, code.lengths(activity, context) - components)


def split_contributions(
    code: SetCode, independent: IndependentCode, activity: Activity, context: Context
) -> Combination:
    """Split the contribution of each component; summed over components it splits the length."""
    components = independent.contributions(activity, context)
    return Combination(components, code.contributions(activity, context) - components)
