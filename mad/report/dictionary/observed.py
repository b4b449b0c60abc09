"""What one dictionary made of many inputs, a batch at a time in and whole out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from mad.components.dictionaries.dictionary import Dictionary
from mad.types import Activity, View


@final
@dataclass(frozen=True)
class Observed:
    """The activity of some inputs in each view of one dictionary.

    The first view bears the components. ``reach`` is how far one unit of each component's
    magnitude moves the target, in the units of the activations.
    """

    views: Mapping[View, Activity]
    reach: Float[Tensor, " component"]

    @staticmethod
    def of(dictionary: Dictionary, batches: Sequence[Mapping[View, Activity]]) -> "Observed":
        """Join what was seen batch by batch."""
        views = {view: joined([batch[view] for batch in batches]) for view in dictionary.views}
        return Observed(views, (dictionary.target.scale * dictionary.decoder).norm(dim=1))

    @property
    def activity(self) -> Activity:
        """The activity that bears the components."""
        return next(iter(self.views.values()))

    @cached_property
    def target(self) -> Float[Tensor, "batch target"]:
        """What is explained, all views end to end."""
        return torch.cat([one.activation for one in self.views.values()], dim=1).float()

    @cached_property
    def residual(self) -> Float[Tensor, "batch target"]:
        """What is not explained of it."""
        return torch.cat([one.residual for one in self.views.values()], dim=1).float()

    @cached_property
    def distances(self) -> Float[Tensor, " entry"]:
        """How far each active component moves the target; unlike magnitudes, free of gauge."""
        return self.activity.magnitudes * self.reach[self.activity.components]

    @property
    def living(self) -> Int64[Tensor, " living"]:
        """The components that some input activates, ascending."""
        return torch.nonzero(self.activity.components.bincount())[:, 0]


def joined(parts: Sequence[Activity]) -> Activity:
    """Return the activity of all inputs of several batches of one view, in order."""
    counts = torch.cat([part.counts for part in parts])
    return Activity(
        offsets=functional.pad(counts.cumsum(dim=0), (1, 0)),
        components=torch.cat([part.components for part in parts]),
        magnitudes=torch.cat([part.magnitudes for part in parts]),
        residual=torch.cat([part.residual for part in parts]),
        activation=torch.cat([part.activation for part in parts]),
        num_components=parts[0].num_components,
    )
