"""mad's measures beside what others would score, on the same images and the same split."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from mad.bench.detection import Estimate, estimate
from mad.bench.peers.base import Scores, Vectors, VectorScore
from mad.bench.peers.combine import SiteScores, max_over_sites, mean_over_sites
from mad.bench.peers.gaussian import mahalanobis
from mad.bench.peers.neighbours import cosine
from mad.bench.peers.outputs import max_softmax
from mad.bench.seen import Seen, see
from mad.demo.images import Labelled
from mad.demo.prepare import Fitted
from mad.demo.stream import Answers
from mad.demo.traffic import Images, Traffic
from mad.types import MEASURES, Progress

_AT_SITES = (
    ("Mahalanobis, mean of sites", mahalanobis, mean_over_sites),
    ("cosine to neighbours, largest of sites", cosine, max_over_sites),
)


@dataclass(frozen=True)
class Detection:
    """How well one score tells triggered images from ordinary ones, with 95 % intervals."""

    auroc: Estimate
    recall: Estimate


def compare(
    fitted: Fitted,
    trusted: Labelled,
    traffic: Traffic,
    answers: Mapping[str, Answers],
    *,
    progress: Progress,
) -> Mapping[str, Detection]:
    """Measure what the server told, by kind of traffic, and three other scores.

    ``recall`` is at 1 % false alarms among the ordinary images.
    """
    ordinary, triggered = answers["ordinary"].rarity, answers["triggered"].rarity
    scores: dict[str, tuple[Scores, Scores]] = {
        **{measure: (ordinary[measure], triggered[measure]) for measure in MEASURES},
        **_peers(fitted, trusted, traffic),
    }
    detection = {}
    for done, (name, (usual, unusual)) in enumerate(scores.items(), start=1):
        detection[name] = _measure(usual, unusual)
        progress("comparing with other scores", done=done, total=len(scores))
    return detection


def _peers(
    fitted: Fitted, trusted: Labelled, traffic: Traffic
) -> Mapping[str, tuple[Scores, Scores]]:
    """Score both kinds of traffic; fitted and scaled on the images that mad's codes were."""
    fitting = _see(fitted, trusted.images[fitted.rows.fitting])
    scaling = _see(fitted, trusted.images[fitted.rows.weighing])
    ordinary = _see(fitted, traffic.ordinary.images)
    triggered = _see(fitted, traffic.triggered.images)
    peers = {}
    for name, peer, rule in _AT_SITES:
        score = _over_sites(peer, rule, fitting, scaling)
        peers[name] = (score(ordinary), score(triggered))
    return peers | {"max-softmax": (max_softmax(ordinary.output), max_softmax(triggered.output))}


def _over_sites(
    peer: Callable[[Vectors], VectorScore],
    rule: Callable[[SiteScores], Callable[[SiteScores], Scores]],
    fitting: Seen,
    scaling: Seen,
) -> Callable[[Seen], Scores]:
    at_sites = {site: peer(vectors) for site, vectors in fitting.vectors.items()}

    def columns(seen: Seen) -> SiteScores:
        return torch.stack([at_sites[site](seen.vectors[site]) for site in at_sites], dim=1)

    combine = rule(columns(scaling))
    return lambda seen: combine(columns(seen))


def _see(fitted: Fitted, images: Images) -> Seen:
    sites = fitted.baseline.manifest.sites
    pooling = fitted.settings.decomposition.pooling
    return see(fitted.model, sites, [{"image": images}], pooling, clock=time.perf_counter)


def _measure(ordinary: Scores, triggered: Scores) -> Detection:
    found = estimate(
        ("auroc", "recall_at_fpr_01"),
        ordinary.unsqueeze(0).numpy(),
        triggered.unsqueeze(0).numpy(),
        seed=0,
    )
    area, recall = found["auroc"], found["recall_at_fpr_01"]
    assert area is not None
    assert recall is not None
    return Detection(area, recall)
