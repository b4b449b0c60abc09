"""The peers on one task: fitted and scored on the same split of the same activations as mad."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

import torch

from mad.bench.figures import Measured
from mad.bench.peers.base import Labelled, Scores, SitePeer, Vectors, VectorScore, without_labels
from mad.bench.peers.combine import SiteScores, joined, max_over_sites, mean_over_sites, rarity_sum
from mad.bench.peers.gaussian import (
    by_predicted_class,
    mahalanobis,
    pca_residual,
    relative_to_all,
    relative_to_diagonal,
)
from mad.bench.peers.learned import autoencoder, isolation_forest
from mad.bench.peers.neighbours import cosine, euclidean, local_outlier_factor
from mad.bench.peers.outputs import OUTPUT_PEERS
from mad.bench.peers.tails import copod, ecod
from mad.bench.seen import Seen
from mad.types import Progress, View

SITE_PEERS: Mapping[str, SitePeer] = {
    "maha": without_labels(mahalanobis),
    "maha_class": by_predicted_class,
    "maha_rel": without_labels(relative_to_diagonal),
    "rmd": relative_to_all,
    "knn": without_labels(euclidean),
    "knn_cos": without_labels(cosine),
    "lof": without_labels(local_outlier_factor),
    "pca_resid": without_labels(pca_residual),
}
"""Peers of one site; each becomes ``<name>_mean`` and ``<name>_max`` over sites."""

JointPeer: TypeAlias = Callable[[Vectors, int], VectorScore]

JOINT_PEERS: Mapping[str, JointPeer] = {
    "iforest": isolation_forest,
    "ecod": lambda trusted, _seed: ecod(trusted),
    "copod": lambda trusted, _seed: copod(trusted),
    "ae": autoencoder,
}
"""Peers that read all sites as one vector, given a seed."""

ENSEMBLE = ("knn_cos", "lof", "maha")
"""Members of ``ensemble``, each at every site, whose bits of rarity are added up."""

NEEDS_EXTRA = {"lof", "iforest"}
"""Peers that scikit-learn provides."""

Clock: TypeAlias = Callable[[], float]
_Rule: TypeAlias = Callable[[SiteScores], Callable[[SiteScores], Scores]]


def measure_peers(
    seen: Mapping[str, Seen], *, is_classifier: bool, seed: int, progress: Progress, clock: Clock
) -> dict[str, Measured]:
    """Fit and score every peer on what was ``seen``: ``fitting``, ``scaling``, and all to score.

    Peers of the output need a classifier. Peers whose extra is not installed are left out, and
    ``absent_peers`` names them.
    """
    peers = _Bench(seen, progress, clock)
    absent = absent_peers()
    for name, peer in SITE_PEERS.items():
        if name not in absent:
            peers.at_sites(name, peer)
    if not absent.intersection(ENSEMBLE):
        peers.ensemble("ensemble", ENSEMBLE)
    for name, joint in JOINT_PEERS.items():
        if name not in absent:
            peers.jointly(name, joint, seed=seed)
    if is_classifier:
        for name, output_peer in OUTPUT_PEERS.items():
            peers.of_outputs(name, output_peer)
    return peers.measured


def absent_peers() -> set[str]:
    """Return the peers that cannot run because scikit-learn is not installed."""
    is_installed = importlib.util.find_spec("sklearn") is not None
    return set() if is_installed else NEEDS_EXTRA | {"ensemble"}


@final
@dataclass(frozen=True)
class _AtSites:
    """One peer at every site: its scores of every set of inputs, and what they took."""

    scores: Mapping[str, SiteScores]
    fit_seconds: float
    score_seconds: float


@final
class _Bench:
    """What was seen, and the figures of the peers measured on it so far."""

    def __init__(self, seen: Mapping[str, Seen], progress: Progress, clock: Clock) -> None:
        self.measured: dict[str, Measured] = {}
        self._fitting = seen["fitting"]
        self._asked = {name: one for name, one in seen.items() if name != "fitting"}
        self._at_sites: dict[str, _AtSites] = {}
        self._progress = progress
        self._clock = clock
        self._told = 0

    def at_sites(self, name: str, peer: SitePeer) -> None:
        """Measure a peer of one site at all of them."""
        self._tell(name)
        scores: dict[str, list[Scores]] = {one: [] for one in self._asked}
        fit_seconds = score_seconds = 0.0
        for site in self._fitting.vectors:
            start = self._clock()
            score = peer(_labelled(self._fitting, site))
            fitted = self._clock()
            for one, seen in self._asked.items():
                scores[one].append(score(_labelled(seen, site)))
            fit_seconds += fitted - start
            score_seconds += self._clock() - fitted
        columns = {one: torch.stack(parts, dim=1) for one, parts in scores.items()}
        found = _AtSites(columns, fit_seconds, score_seconds)
        self._at_sites[name] = found
        self._combine(f"{name}_mean", found, mean_over_sites)
        self._combine(f"{name}_max", found, max_over_sites)

    def ensemble(self, name: str, members: Sequence[str]) -> None:
        """Measure the sum of the rarity of several peers at every site."""
        found = [self._at_sites[member] for member in members]
        scores = {
            one: torch.cat([member.scores[one] for member in found], dim=1) for one in self._asked
        }
        together = _AtSites(
            scores,
            sum(member.fit_seconds for member in found),
            sum(member.score_seconds for member in found),
        )
        self._combine(name, together, rarity_sum)

    def jointly(self, name: str, peer: JointPeer, *, seed: int) -> None:
        """Measure a peer that reads all sites as one vector."""
        self._tell(name)
        start = self._clock()
        join = joined(self._fitting.vectors)
        score = peer(join(self._fitting.vectors), seed)
        fit_seconds = self._clock() - start
        self._keep(name, lambda seen: score(join(seen.vectors)), fit_seconds)

    def of_outputs(self, name: str, peer: Callable[[Vectors], Scores]) -> None:
        """Measure a peer of the model's output, which there is nothing to fit for."""
        self._tell(name)
        self._keep(name, lambda seen: peer(seen.output), 0.0)

    def _combine(self, name: str, found: _AtSites, rule: _Rule) -> None:
        combine = rule(found.scores["scaling"])
        scores = {one: combine(columns) for one, columns in found.scores.items()}
        self._put(name, scores, self._fitting.seconds + found.fit_seconds, found.score_seconds)

    def _keep(self, name: str, score: Callable[[Seen], Scores], fit_seconds: float) -> None:
        start = self._clock()
        scores = {one: score(seen) for one, seen in self._asked.items()}
        self._put(name, scores, self._fitting.seconds + fit_seconds, self._clock() - start)

    def _put(
        self, name: str, scores: dict[str, Scores], fit_seconds: float, score_seconds: float
    ) -> None:
        count = sum(len(seen) for seen in self._asked.values())
        seconds = score_seconds + sum(seen.seconds for seen in self._asked.values())
        del scores["scaling"]
        self.measured[name] = Measured(scores, fit_seconds, 1e6 * seconds / count)

    def _tell(self, name: str) -> None:
        total = len(SITE_PEERS) + len(JOINT_PEERS) + len(OUTPUT_PEERS)
        self._told += 1
        self._progress("peers", done=self._told, total=total, note=name)


def _labelled(seen: Seen, site: View) -> Labelled:
    return Labelled(seen.vectors[site], seen.predicted)
