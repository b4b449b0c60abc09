"""The peers on one task: fitted and scored on the same split of the same activations as mad."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import final

import torch

from mad.arrays import Table
from mad.bench.figures import Measured
from mad.bench.peers import SITE_PEERS, Scores, Vectors, max_softmax, over_sites
from mad.bench.tasks import Task, batches
from mad.capture.hooks import capture
from mad.capture.model import MonitoredModel
from mad.components.pooling import Pooling, pool
from mad.fit import Split
from mad.types import Inputs, Progress, Site

STAGE = "peers"


@final
@dataclass(frozen=True)
class Seen:
    """What peers read of some inputs: a vector for each site, and the model's first output."""

    vectors: Mapping[Site, Vectors]
    output: Vectors
    seconds: float

    def __len__(self) -> int:
        """Return the number of inputs."""
        return len(self.output)


def measure_peers(
    task: Task, rows: Split, pooling: Pooling, *, progress: Progress, clock: Callable[[], float]
) -> dict[str, Measured]:
    """Fit and score every peer of ``SITE_PEERS``, and max-softmax where the model classifies.

    ``pooling`` is that of mad's own dictionaries: what differs is the score, not what it sees.
    """
    data = Table(task.trusted)
    progress(STAGE, done=0, total=len(SITE_PEERS) + 1, note="capturing activations")
    fitting = see(task.model, task.sites, data.take(rows.fitting), pooling, clock=clock)
    asked = {"reference": data.take(rows.reference), **task.tests}
    seen = {
        name: see(task.model, task.sites, inputs, pooling, clock=clock)
        for name, inputs in asked.items()
    }
    measured = {}
    for done, (name, peer) in enumerate(SITE_PEERS.items(), start=1):
        progress(STAGE, done=done, total=len(SITE_PEERS) + 1, note=name)
        start = clock()
        score = over_sites(peer, fitting.vectors, seen["reference"].vectors)
        fit_seconds = fitting.seconds + clock() - start
        measured[name] = _measured(seen, partial(_by_vectors, score), fit_seconds, clock)
    if task.is_classifier:
        measured["max_softmax"] = _measured(seen, lambda one: max_softmax(one.output), 0.0, clock)
    progress(STAGE, done=len(SITE_PEERS) + 1, total=len(SITE_PEERS) + 1)
    return measured


def see(
    model: MonitoredModel,
    sites: tuple[Site, ...],
    inputs: Inputs,
    pooling: Pooling,
    *,
    clock: Callable[[], float],
) -> Seen:
    """Run the model and pool the positions of each site."""
    start = clock()
    vectors: dict[Site, list[Vectors]] = {site: [] for site in sites}
    outputs = []
    for batch in batches(inputs, size=256):
        run = capture(model, sites, batch)
        outputs.append(next(iter(run.outputs.values())))
        for site in sites:
            vectors[site].append(pool(run.activations[site], pooling).float())
    joined = {site: torch.cat(parts) for site, parts in vectors.items()}
    return Seen(joined, torch.cat(outputs), clock() - start)


def _by_vectors(score: Callable[[Mapping[Site, Vectors]], Scores], seen: Seen) -> Scores:
    return score(seen.vectors)


def _measured(
    seen: Mapping[str, Seen],
    score: Callable[[Seen], Scores],
    fit_seconds: float,
    clock: Callable[[], float],
) -> Measured:
    start = clock()
    scores = {name: score(one) for name, one in seen.items()}
    seconds = clock() - start + sum(one.seconds for one in seen.values())
    return Measured(scores, fit_seconds, 1e6 * seconds / sum(len(one) for one in seen.values()))
