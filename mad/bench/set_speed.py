"""What coding active sets costs beside the dictionary that finds them, in one run."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from rich.console import Console
from rich.table import Table as Printed
from torch import Tensor

from mad.codes.bayes import BayesCode
from mad.codes.sets.clusters import MAX_CLUSTERS, SETS_PER_CLUSTER
from mad.codes.sets.experts import ExpertsCode
from mad.codes.sets.mixture import MixtureCode
from mad.codes.statistics import KeptSets, SetCounts
from mad.components.dictionaries.dictionary import Dictionary
from mad.types import Context

CONTEXTS = 10


@final
@dataclass(frozen=True)
class SetCodes:
    """Hidden clusters alone, and the default set code, the Bayes mixture of both kinds of them."""

    clusters: MixtureCode
    bayes: BayesCode


@final
@dataclass(frozen=True)
class SetCost:
    """Median milliseconds a batch: encoding by the dictionary, then each code of the sets."""

    batch: int
    encode: float
    clusters: float
    bayes: float

    @property
    def clusters_share(self) -> float:
        """Time of the clusters over that of the dictionary."""
        return self.clusters / self.encode

    @property
    def bayes_share(self) -> float:
        """Time of the Bayes mixture over that of the dictionary."""
        return self.bayes / self.encode


def fit_set_codes(dictionary: Dictionary, *, clusters: int = MAX_CLUSTERS) -> SetCodes:
    """Fit the codes to what the dictionary finds in noise, with as many clusters as that."""
    count = clusters * SETS_PER_CLUSTER
    x = torch.randn(count, dictionary.decoder.shape[1])
    activity = dictionary.activity({dictionary.view: x})[dictionary.view]
    context = _context(count)
    everyone = torch.ones(count, dtype=torch.bool)
    sets = KeptSets.of(activity, context, rows=torch.arange(count), keep=everyone)
    counts = SetCounts.of(activity, context)
    mixture = MixtureCode.fit(sets, counts, clusters=clusters)
    experts = ExpertsCode.fit(sets, counts, clusters=clusters)
    return SetCodes(mixture, BayesCode.of((mixture, experts)))


def measure_sets(
    dictionary: Dictionary,
    codes: SetCodes,
    x: Float[Tensor, "batch coordinate"],
    *,
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> SetCost:
    """Encode one batch several times and code its sets each time; take medians."""
    context = _context(len(x))
    seconds: list[tuple[float, float, float]] = []
    for _ in range(rounds + 1):
        start = clock()
        activity = dictionary.activity({dictionary.view: x})[dictionary.view]
        encoded = clock()
        codes.clusters.lengths(activity, context)
        clustered = clock()
        codes.bayes.lengths(activity, context)
        seconds.append((encoded - start, clustered - encoded, clock() - clustered))
    # The first round is warming up.
    return SetCost(
        len(x), *(1e3 * statistics.median(one) for one in zip(*seconds[1:], strict=True))
    )


def show_sets(costs: Sequence[SetCost], console: Console) -> None:
    """Print one row a batch size."""
    names = ("batch", "encode ms", "clusters ms", "clusters / encode", "bayes ms", "bayes / encode")
    printed = Printed(*names, title="What coding active sets costs")
    for cost in costs:
        printed.add_row(
            str(cost.batch),
            f"{cost.encode:.2f}",
            f"{cost.clusters:.3f}",
            f"{cost.clusters_share:.4f}",
            f"{cost.bayes:.3f}",
            f"{cost.bayes_share:.4f}",
        )
    console.print(printed)


def _context(batch: int) -> Context:
    return torch.arange(batch) % CONTEXTS
