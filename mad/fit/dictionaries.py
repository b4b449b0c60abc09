"""Train dictionaries on the fitting part of trusted data."""

from collections.abc import Sequence

from jaxtyping import Int64
from torch import Tensor

from mad.capture.model import MonitoredModel
from mad.components.dictionaries.plan import DictionaryPlan
from mad.fit.training.source import ModelSource
from mad.fit.training.together import ROOM, Room, Trained, train_together
from mad.fit.training.wanted import Wanted
from mad.types import Dataset, Progress, Site


def train_dictionaries(  # noqa: PLR0913  # what is read, how it is trained, and who watches
    model: MonitoredModel,
    sites: Sequence[Site],
    data: Dataset,
    plan: DictionaryPlan,
    *,
    rows: Int64[Tensor, " fitting"],
    progress: Progress,
    room: Room = ROOM,
) -> Trained:
    """Train one kind of dictionary at each site on the fitting part of the trusted data.

    One for each view of a site that the plan's pooling asks for, and where it searches, a second
    one, ``view:w128k6`` for its size, if that describes the view much shorter (see ``sizes``).

    Raises:
        ConfigError: the model fails on the data, or a site cannot be read or teaches nothing.
    """
    source = ModelSource.of(model, sites, data, rows)
    wanted = [Wanted(plan=plan, sites=tuple(sites))]
    return train_together(source, wanted, seed=plan.seed, progress=progress, room=room)
