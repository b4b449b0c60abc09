"""Components of several views as those of one, for a code that asks which of them go together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.nn import functional

from mad.types import PAIRS, Activity, View


@final
@dataclass(frozen=True)
class Origins:
    """Where each component of a part of several views comes from, view by view, each once.

    Component ``i`` is component ``index[i]`` of ``views[view[i]]``; both ascend. Components of
    these views that are left out are not seen.
    """

    views: tuple[View, ...]
    view: Int64[Tensor, " component"]
    index: Int64[Tensor, " component"]

    def of(self, activity: Mapping[View, Activity]) -> Activity:
        """Put the active sets of all views together, with no residual."""
        rows, components, magnitudes = [], [], []
        for number, name in enumerate(self.views):
            own = activity[name]
            mine = (self.view == number).nonzero().squeeze(1)
            place = torch.full((own.num_components,), -1)
            place[self.index[mine]] = mine
            found = place[own.components]
            is_seen = found >= 0
            rows.append(own.rows[is_seen])
            components.append(found[is_seen])
            magnitudes.append(own.magnitudes[is_seen])
        row = torch.cat(rows)
        # Views follow each other, so that components ascend within an input.
        order = row.argsort(stable=True)
        size = len(activity[self.views[0]])
        nothing = torch.zeros(size, 0)
        return Activity(
            functional.pad(row.bincount(minlength=size).cumsum(dim=0), (1, 0)),
            torch.cat(components)[order],
            torch.cat(magnitudes)[order],
            nothing,
            nothing,
            self.index.numel(),
        )

    def origin(self, component: int) -> tuple[View, int]:
        """Return the view that a component is of, and what it is called there."""
        return self.views[int(self.view[component])], int(self.index[component])


def put_together(
    activity: Mapping[View, Activity], origins: Sequence[Origins | None]
) -> Mapping[View, Activity]:
    """Return the same with what the first of some origins sees, under ``PAIRS``; there is one."""
    known = next((one for one in origins if one is not None), None)
    return activity if known is None else {**activity, PAIRS: known.of(activity)}
