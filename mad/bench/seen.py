"""Inputs in, what other detectors read of them out: a vector for each site, and the answer."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from mad.arrays import Table
from mad.bench.tasks import Task, batches
from mad.capture.hooks import capture
from mad.capture.model import MonitoredModel
from mad.components.pooling import Pooling, pool, poolings
from mad.fit import Split
from mad.scoring import context_of
from mad.types import Context, Inputs, Site, View, batch_size, view_of

BATCH = 256


@final
@dataclass(frozen=True)
class Seen:
    """What a run of the model on some inputs showed, and the seconds it took.

    There is a vector for each view that mad's own dictionaries have of a site, and ``predicted`` is
    the label that mad conditions its codes on: what differs is the score, not what it sees.
    """

    vectors: Mapping[View, Float[Tensor, "batch coordinate"]]
    output: Float[Tensor, "batch ..."]
    predicted: Context
    seconds: float

    def __len__(self) -> int:
        """Return the number of inputs."""
        return len(self.predicted)


def see(
    model: MonitoredModel,
    sites: tuple[Site, ...],
    inputs: Iterable[Inputs],
    pooling: Pooling,
    *,
    clock: Callable[[], float],
) -> Seen:
    """Run the model on inputs, a batch at a time, and pool the positions of each site."""
    start = clock()
    vectors: dict[View, list[Tensor]] = defaultdict(list)
    outputs, predicted = [], []
    for batch in inputs:
        run = capture(model, sites, batch)
        outputs.append(next(iter(run.outputs.values())))
        predicted.append(context_of(run.outputs, "predicted", batch=batch_size(batch)))
        for site in sites:
            activations = run.activations[site]
            for suffix, one in poolings(activations, pooling).items():
                vectors[view_of(site, suffix)].append(pool(activations, one).float())
    joined = {view: torch.cat(parts) for view, parts in vectors.items()}
    return Seen(joined, torch.cat(outputs), torch.cat(predicted), clock() - start)


def see_task(
    task: Task, rows: Split, pooling: Pooling, *, clock: Callable[[], float]
) -> dict[str, Seen]:
    """See a task's trusted inputs and tests.

    Of trusted inputs held out from the fit, ``scaling`` says what a score at one site means, as
    mad's own weighing does, and ``reference`` is what p-values rank against.
    """
    data = Table(task.trusted)
    parts = {
        "fitting": data.take(rows.fitting),
        "scaling": data.take(rows.weighing),
        "reference": data.take(rows.reference),
        **task.tests,
    }
    return {
        name: see(task.model, task.sites, batches(inputs, size=BATCH), pooling, clock=clock)
        for name, inputs in parts.items()
    }
