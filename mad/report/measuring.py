"""Codes and held-out inputs in; the shortest code of each term, and what it costs, out."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from mad.report.accounting import NOTHING, Described, SiteAccount, shortest, total
from mad.report.fitting import Fitted
from mad.report.gaussian import Divided, Squares
from mad.types import Activity, Context, Site


@final
@dataclass(frozen=True)
class Tally:
    """Bits of every candidate, summed over held-out inputs.

    ``entries`` is how many components were active in all, ``largest_error`` a distance in one
    coordinate, and ``squares`` None where there is no residual.
    """

    inputs: int
    entries: int
    sets: Float64[Tensor, " set_code"]
    magnitudes: Float64[Tensor, " magnitude_code"]
    squares: Squares | None
    largest_error: float

    @staticmethod
    def of(fitted: Fitted, activity: Activity, context: Context) -> "Tally":
        """Describe one batch under every code, read it back, and compare."""
        said = fitted.vocabulary.say(activity)
        error = fitted.vocabulary.read(said) - activity.activation.double()
        gaussians = fitted.gaussians
        return Tally(
            len(said),
            len(said.components),
            _stacked([one.lengths(said, context).sum() for one in fitted.sets]),
            _stacked([one.lengths(said).sum() for one in fitted.magnitudes]),
            None if gaussians is None else gaussians.squares(said.residual.double()),
            float(error.abs().max()),
        )

    def merge(self, other: "Tally") -> "Tally":
        """Return the tally of both parts of the data."""
        left, right = self.squares, other.squares
        return Tally(
            self.inputs + other.inputs,
            self.entries + other.entries,
            self.sets + other.sets,
            self.magnitudes + other.magnitudes,
            None if left is None or right is None else left.merge(right),
            max(self.largest_error, other.largest_error),
        )


def settle(
    fitted: Fitted, tally: Tally, *, site: Site, name: str, pitches: int, inputs: int
) -> SiteAccount:
    """Choose for each term the code that describes ``inputs`` inputs in the fewest bits.

    Where there are no other components, principal directions are the components.
    """
    vocabulary = fitted.vocabulary
    of_set, of_magnitudes = _set(fitted, tally, inputs), _magnitudes(fitted, tally, inputs)
    split = _residual(fitted, tally, inputs)
    is_principal = vocabulary.components == 0
    return SiteAccount(
        site=site,
        vocabulary=name,
        step=vocabulary.step,
        pitch_steps=vocabulary.pitch / vocabulary.step,
        pitches=pitches,
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


def _residual(fitted: Fitted, tally: Tally, inputs: int) -> Divided:
    if fitted.gaussians is None or tally.squares is None:
        return Divided(0, 0, NOTHING, NOTHING)
    return min(
        fitted.gaussians.candidates(tally.squares),
        key=lambda split: total(split.whole, inputs=inputs),
    )


def _stacked(sums: list[Tensor]) -> Float64[Tensor, " code"]:
    return torch.stack(sums) if sums else torch.zeros(0, dtype=torch.float64)
