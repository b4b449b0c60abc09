"""What every code promises."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float64
from torch import Tensor

from mad.types import Activity, Bits, Context


@runtime_checkable
class Code(Protocol):
    """A prefix code over one term of an activity, fitted on trusted data.

    Laws:
        Kraft: over everything that can be described, the sum of ``2 ** -length`` is at most one,
        whatever the context.
        Finite: whatever was never seen in trusted data still costs finitely many bits.
        Exact: the contributions of an input add up to its length.
    """

    def lengths(self, activity: Activity, context: Context) -> Bits:
        """Return the code length of each input, in bits."""
        ...

    def contributions(self, activity: Activity, context: Context) -> Float64[Tensor, "batch index"]:
        """Return how many bits each component, or coordinate of the residual, accounts for."""
        ...

    def typical(self, context: Context) -> Float64[Tensor, "batch index"]:
        """Return what each contribution is on average for trusted inputs in the same context."""
        ...


@runtime_checkable
class SetCode(Code, Protocol):
    """A code of active sets; it also knows how often trusted inputs use each component."""

    def rates(self, context: Context) -> Float64[Tensor, "batch component"]:
        """Return the rate of each component in trusted data, given each input's context."""
        ...
