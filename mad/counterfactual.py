"""Would the model have answered otherwise without what an explanation names?"""

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import Literal, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mad.capture.answer import labels, scores
from mad.capture.edit import run_edited
from mad.capture.hooks import Outputs, capture
from mad.capture.model import MonitoredModel
from mad.components.base import Decomposition
from mad.errors import ConfigError
from mad.types import (
    MECHANISM_TERMS,
    Activity,
    Charge,
    Explanation,
    Inputs,
    Term,
    View,
    batch_size,
)

SURPRISING_BITS = 1.0
"""Charges this far above their typical bits are named: something half as likely as is usual."""


@final
@dataclass(frozen=True, slots=True)
class Counterfactual:
    """What the model says of one input when something is taken away in one view of a site.

    Components in ``removed`` are silenced: their share of the activation is subtracted, and
    everything else, the residual too, stays. Silence, and not their mean, since a sparse component
    is silent for most trusted inputs. They are the fewest, taken in the order of the explanation,
    without which the label is another, or all that it names if the label stays. Components in
    ``absent`` are named because they are silent though usually active; they stay silent, since a
    baseline does not say how strong they should be. A residual that is taken away leaves the
    reconstruction in its place, or zero where there are no components.

    Labels are -1 for a model that predicts none. ``output_change`` is how far the first output
    moves, as a share of its length.
    """

    site: View
    what: Literal["components", "residual"]
    removed: tuple[int, ...]
    absent: tuple[int, ...]
    label_before: int
    label_after: int
    output_change: float

    @property
    def is_changed(self) -> bool:
        """Whether the model predicts another label."""
        return self.label_after != self.label_before


def counterfactuals(
    model: MonitoredModel, decomposition: Decomposition, inputs: Inputs, explanation: Explanation
) -> tuple[Counterfactual, ...]:
    """Take away what the explanation of one input charges a bit or more above typical; run again.

    In each view first the components named are silenced, one more at a time, then, if it is
    named, the residual is taken away: one more run of the model each, the first on as many copies
    of the input as there are components. What runs after the site answers to the change. A label
    that stays does not clear the components: others may do the same work.

    Raises:
        ConfigError: as ``capture`` does, or the model returns no tensor to compare.
    """
    assert batch_size(inputs) == 1
    run = capture(model, decomposition.sites, inputs)
    if not run.outputs:
        raise ConfigError("the model returns no tensor, so no change of its answer can be seen")
    is_labelled = scores(run.outputs, batch=1) is not None
    found = []
    for view, activity in decomposition.activity(run.activations).items():
        charges = [charge for charge in explanation.charges if charge.site == view]
        takings = (_components(decomposition, activity, charges), _residual(activity, charges))
        for taken in filter(None, takings):
            steps = taken if is_labelled else taken.at_once()
            after = _run_without(model, decomposition, inputs, view, steps.shares)
            found.append(_compared(view, steps, run.outputs, after))
    return tuple(found)


@final
@dataclass(frozen=True)
class _Taken:
    """What is taken away in each step, and its share of the view's pooled vector.

    The first step takes the first of ``components``, the next the first two, and so on.
    """

    what: Literal["components", "residual"]
    components: tuple[int, ...]
    absent: tuple[int, ...]
    shares: Float[Tensor, "step coordinate"]

    def at_once(self) -> "_Taken":
        """Return the last step alone, for an answer that does not come in rows."""
        return replace(self, shares=self.shares[-1:])


def _components(
    decomposition: Decomposition, activity: Activity, charges: Sequence[Charge]
) -> _Taken | None:
    """Take the active ones among the components named; None if there are none."""
    named = _surprising(charges, MECHANISM_TERMS)
    is_active = torch.isin(named, activity.components)
    active = named[is_active]
    if not len(active):
        return None
    entries = torch.searchsorted(activity.components, active)
    directions = decomposition.directions(charges[0].site, active)
    shares = (activity.magnitudes[entries].unsqueeze(1) * directions).cumsum(dim=0)
    return _Taken("components", tuple(active.tolist()), tuple(named[~is_active].tolist()), shares)


def _residual(activity: Activity, charges: Sequence[Charge]) -> _Taken | None:
    if not len(_surprising(charges, {"residual"})):
        return None
    return _Taken("residual", (), (), activity.residual)


def _surprising(charges: Sequence[Charge], terms: Set[Term]) -> Int64[Tensor, " named"]:
    """Return the indices that some terms charge a bit or more above typical, each once."""
    above = [
        c.index for c in charges if c.term in terms and c.bits - c.typical_bits >= SURPRISING_BITS
    ]
    return torch.tensor(list(dict.fromkeys(above)), dtype=torch.int64)


def _run_without(
    model: MonitoredModel,
    decomposition: Decomposition,
    inputs: Inputs,
    view: View,
    shares: Float[Tensor, "step coordinate"],
) -> Outputs:
    """Run the model on as many copies of one input as there are shares, each without its own."""

    def edit(activations: Float[Tensor, "step ..."]) -> Float[Tensor, "step ..."]:
        return activations + decomposition.spread(view, -shares, activations)

    copies = {name: value.repeat_interleave(len(shares), dim=0) for name, value in inputs.items()}
    return run_edited(model, {decomposition.views[view]: edit}, copies)


def _compared(view: View, taken: _Taken, before: Outputs, after: Outputs) -> Counterfactual:
    """Compare at the first step that changes the label, or at the last."""
    steps = len(taken.shares)
    label, found = _labels(before, batch=1), _labels(after, batch=steps)
    changed = (found != label).nonzero().flatten().tolist()
    step = changed[0] if changed else steps - 1
    first, second = (next(iter(outputs.values())) for outputs in (before, after))
    return Counterfactual(
        site=view,
        what=taken.what,
        removed=taken.components[: len(taken.components) - (steps - 1 - step)],
        absent=taken.absent,
        label_before=int(label),
        label_after=int(found[step]),
        output_change=_change(first, second[step : step + 1] if steps > 1 else second),
    )


def _labels(outputs: Outputs, *, batch: int) -> Int64[Tensor, " batch"]:
    """Return the label predicted in each row; -1 where none is."""
    predicted = scores(outputs, batch=batch)
    return torch.full((batch,), -1) if predicted is None else labels(predicted)


def _change(before: Tensor, after: Tensor) -> float:
    """Return the length of the difference over the length before."""
    first, second = _exact(before), _exact(after)
    moved = (second - first).norm()
    # A number that is not one, before or after, is no small change.
    share = (moved / first.norm()).nan_to_num(nan=torch.inf, posinf=torch.inf)
    return float(share) if moved != 0 else 0.0


def _exact(output: Tensor) -> Tensor:
    return output.to(torch.complex128 if output.is_complex() else torch.float64)
