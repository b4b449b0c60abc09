"""Codes and held-out inputs in; the shortest code of each term, and what it costs, out."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from mad.report.accounting import NOTHING, Described, SiteAccount, shortest, total
from mad.report.fitting import Fitted
from mad.report.gaussian import Divided
from mad.report.residuals import ResidualTally
from mad.types import Activity, Context, Site


@final
@dataclass(frozen=True)
class Tally:
    """Bits of every candidate, summed over held-out inputs.

    ``entries`` is how many components were active in all, ``largest_error`` a distance in one
    coordinate, and ``residual`` None where there is none.
    """

    inputs: int
    entries: int
    sets: Float64[Tensor, " set_code"]
    magnitudes: Float64[Tensor, " magnitude_code"]
    residual: ResidualTally | None
    largest_error: float

    @staticmethod
    def of(fitted: Fitted, activity: Activity, context: Context) -> "Tally":
        """Describe one batch under every code, read it back, and compare."""
        said = fitted.vocabulary.say(activity)
        error = fitted.vocabulary.read(said) - activity.activation.double()
        codes = fitted.residual
        return Tally(
            len(said),
            len(said.components),
            _stacked([one.lengths(said, context).sum() for one in fitted.sets]),
            _stacked([one.lengths(said).sum() for one in fitted.magnitudes]),
            None if codes is None else codes.tally(said),
            float(error.abs().max()),
        )

    def merge(self, other: "Tally") -> "Tally":
        """Return the tally of both parts of the data."""
        left, right = self.residual, other.residual
        return Tally(
            self.inputs + other.inputs,
            self.entries + other.entries,
            self.sets + other.sets,
            self.magnitudes + other.magnitudes,
            None if left is None or right is None else left.merge(right),
            max(self.largest_error, other.largest_error),
        )


@final
@dataclass(frozen=True)
class Heading:
    """Whose account it is: ``alternatives`` is how many vocabularies there were to choose from."""

    site: Site
    vocabulary: str
    alternatives: int


def settle(
    fitted: Fitted, tally: Tally, heading: Heading, *, inputs: int, silence: Described
) -> SiteAccount:
    """Choose for each term the code that describes ``inputs`` inputs in the fewest bits.

    ``silence`` is what it costs to say which coordinates are zero. Where there are no other
    components, principal directions are the components.
    """
    vocabulary = fitted.vocabulary
    of_set, of_magnitudes = _set(fitted, tally, inputs), _magnitudes(fitted, tally, inputs)
    split = _residual(fitted, tally, inputs, silence)
    is_principal = vocabulary.components == 0
    return SiteAccount(
        site=heading.site,
        vocabulary=heading.vocabulary,
        step=vocabulary.step,
        pitch_steps=vocabulary.pitch / vocabulary.step,
        alternatives=heading.alternatives,
        components=split.directions if is_principal else vocabulary.components,
        active=float(split.directions) if is_principal else tally.entries / tally.inputs,
        vocabulary_parameters=split.frame_parameters if is_principal else vocabulary.parameters,
        set=of_set,
        magnitudes=split.leading if is_principal else of_magnitudes,
        residual=split.rest if is_principal else split.whole,
        largest_error_steps=tally.largest_error / vocabulary.step,
    )


def _set(fitted: Fitted, tally: Tally, inputs: int) -> Described:
    components = fitted.vocabulary.components
    candidates = [
        Described(
            one.name,
            one.parameters_each * components + one.parameters_beside,
            len(fitted.sets),
            float(bits) / tally.inputs,
        )
        for one, bits in zip(fitted.sets, tally.sets, strict=True)
    ]
    return shortest(candidates, inputs=inputs) if candidates else NOTHING


def _magnitudes(fitted: Fitted, tally: Tally, inputs: int) -> Described:
    components = fitted.vocabulary.components
    candidates = [
        Described(
            f"gaussian {one.scale}",
            one.parameters_each * components,
            len(fitted.magnitudes),
            float(bits) / tally.inputs,
        )
        for one, bits in zip(fitted.magnitudes, tally.magnitudes, strict=True)
    ]
    return shortest(candidates, inputs=inputs) if candidates else NOTHING


def _residual(fitted: Fitted, tally: Tally, inputs: int, silence: Described) -> Divided:
    if fitted.residual is None or tally.residual is None:
        return Divided(0, 0, NOTHING, NOTHING)
    return min(
        fitted.residual.candidates(tally.residual, silence=silence),
        key=lambda divided: total(divided.whole, inputs=inputs),
    )


def _stacked(sums: list[Tensor]) -> Float64[Tensor, " code"]:
    return torch.stack(sums) if sums else torch.zeros(0, dtype=torch.float64)
