"""Would the model have answered otherwise without what an explanation names?"""

from collections.abc import Sequence
from dataclasses import dataclass
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
from mad.types import Activity, Charge, Explanation, Inputs, Site, Term, batch_size


@final
@dataclass(frozen=True, slots=True)
class Counterfactual:
    """What the model says of one input when something is taken away at one site.

    Components in ``removed`` are silenced: their share of the activation is subtracted, and
    everything else, the residual too, stays. Silence, and not their mean, since a sparse component
    is silent for most trusted inputs. Components in ``absent`` are named because they are silent
    though usually active; they stay silent, since a baseline does not say how strong they should
    be. A residual that is taken away leaves the reconstruction in its place, or zero where there
    are no components.

    Labels are -1 for a model that predicts none. ``output_change`` is how far the first output
    moves, as a share of its length.
    """

    site: Site
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
    """Take away what the explanation of one input charges above its typical bits, and run again.

    One more run of the model for the components named at each site, and one for each residual
    named, in the order of sites; what runs after the site answers to the change. A label that
    stays does not clear the components: others may do the same work.

    Raises:
        ConfigError: as ``capture`` does, or the model returns no tensor to compare.
    """
    assert batch_size(inputs) == 1
    run = capture(model, decomposition.sites, inputs)
    found = []
    for site, activity in decomposition.activity(run.activations).items():
        charges = [charge for charge in explanation.charges if charge.site == site]
        for taken in (_components(decomposition, activity, charges), _residual(activity, charges)):
            if taken is None:
                continue
            added = decomposition.spread(site, -taken.share, run.activations[site])
            after = run_edited(model, {site: added.add}, inputs)
            found.append(_compared(site, taken, run.outputs, after))
    return tuple(found)


@final
@dataclass(frozen=True)
class _Taken:
    """What is taken away, and its share of the site's pooled vector."""

    what: Literal["components", "residual"]
    removed: tuple[int, ...]
    absent: tuple[int, ...]
    share: Float[Tensor, "1 coordinate"]


def _components(
    decomposition: Decomposition, activity: Activity, charges: Sequence[Charge]
) -> _Taken | None:
    """Return the active ones among the components named; None if there are none."""
    named = _surprising(charges, "set")
    is_named = torch.isin(activity.components, named)
    removed = activity.components[is_named]
    if not len(removed):
        return None
    directions = decomposition.directions(charges[0].site, removed)
    share = activity.magnitudes[is_named].unsqueeze(0) @ directions
    absent = named[~torch.isin(named, removed)]
    return _Taken("components", tuple(removed.tolist()), tuple(absent.tolist()), share)


def _residual(activity: Activity, charges: Sequence[Charge]) -> _Taken | None:
    if not len(_surprising(charges, "residual")):
        return None
    return _Taken("residual", (), (), activity.residual)


def _surprising(charges: Sequence[Charge], term: Term) -> Int64[Tensor, " named"]:
    """Return the indices of one term's charges above their typical bits, ascending."""
    above = [c.index for c in charges if c.term == term and c.bits > c.typical_bits]
    return torch.tensor(sorted(above), dtype=torch.int64)


def _compared(site: Site, taken: _Taken, before: Outputs, after: Outputs) -> Counterfactual:
    return Counterfactual(
        site=site,
        what=taken.what,
        removed=taken.removed,
        absent=taken.absent,
        label_before=_label(before),
        label_after=_label(after),
        output_change=_change(before, after),
    )


def _label(outputs: Outputs) -> int:
    predicted = scores(outputs, batch=1)
    return -1 if predicted is None else int(labels(predicted))


def _change(before: Outputs, after: Outputs) -> float:
    """Return the length of the difference of the first output over its length before."""
    if not before:
        raise ConfigError("the model returns no tensor, so no change of its answer can be seen")
    first, second = (_exact(next(iter(outputs.values()))) for outputs in (before, after))
    moved = (second - first).norm()
    # A number that is not one, before or after, is no small change.
    share = (moved / first.norm()).nan_to_num(nan=torch.inf, posinf=torch.inf)
    return float(share) if moved != 0 else 0.0


def _exact(output: Tensor) -> Tensor:
    return output.to(torch.complex128 if output.is_complex() else torch.float64)
