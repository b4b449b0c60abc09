"""Activity by effect: not how strongly a component was active, but what the answer owes to it."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from mad.capture.gradients import Slopes, slopes
from mad.capture.hooks import Outputs
from mad.capture.model import MonitoredModel
from mad.components.base import Decomposition
from mad.effects.answer import answered, predicted
from mad.effects.slope import by_magnitude
from mad.types import Activity, Inputs, View, batch_size


def differentiated(model: MonitoredModel, decomposition: Decomposition, inputs: Inputs) -> Slopes:
    """Run the model forward and backward once, and leave it as it was.

    What is differentiated is the score of the label that the model predicts.

    Raises:
        ConfigError: the model's answer cannot be differentiated, or is no row of numbers an input.
    """

    def answer(outputs: Outputs) -> Float[Tensor, " batch"]:
        return answered(outputs, predicted(outputs, batch=batch_size(inputs)))

    explained = tuple(dict.fromkeys(decomposition.views.values()))
    # What is only read may have no derivative: tokens have none.
    read = tuple(site for site in decomposition.sites if site not in explained)
    return slopes(model, explained, inputs, of=answer, also_keep=read)


def by_effect(decomposition: Decomposition, seen: Slopes, *, keep: int) -> Mapping[View, Activity]:
    """Return the components that the model's answer to each input depends on most, in each view.

    An effect is magnitude times the derivative of the answer by the magnitude: to first order, what
    the answer would lose if the component were silent (exactly, where the rest of the model is
    linear). At most ``keep`` components of each active set, those of largest absolute effect;
    effects are the magnitudes, and may be negative. A component without effect is not active.
    """
    found = {}
    for view, activity in decomposition.activity(seen.activations).items():
        effects = by_magnitude(decomposition, view, activity, seen.activations, seen.gradients)
        found[view] = _strongest(replace(activity, magnitudes=effects), keep)
    return found


def _strongest(activity: Activity, keep: int) -> Activity:
    """Keep the entries of largest absolute magnitude of each input, if they are not zero."""
    kept = _rank(activity) < keep
    kept &= activity.magnitudes != 0
    counts = torch.zeros_like(activity.counts).index_add_(0, activity.rows, kept.long())
    return replace(
        activity,
        offsets=functional.pad(counts.cumsum(dim=0), (1, 0)),
        components=activity.components[kept],
        magnitudes=activity.magnitudes[kept],
    )


def _rank(activity: Activity) -> Int64[Tensor, " entry"]:
    """Return each entry's place among those of its input, the largest first."""
    by_size = activity.magnitudes.abs().argsort(descending=True, stable=True)
    by_row = by_size[activity.rows[by_size].argsort(stable=True)]
    rank = torch.empty_like(by_row)
    rank[by_row] = torch.arange(len(by_row)) - activity.offsets[activity.rows]
    return rank
