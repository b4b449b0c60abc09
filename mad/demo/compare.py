"""The surprise beside what others would score, on the same images and the same split."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mad.bench.detection import Estimate, estimate
from mad.bench.peer_run import Seen, see
from mad.bench.peers import Scores, knn, mahalanobis, max_softmax, over_sites
from mad.demo.images import Labelled
from mad.demo.prepare import Fitted
from mad.demo.traffic import Images, Traffic
from mad.types import Bits, Progress

SURPRISE = "surprise"


@dataclass(frozen=True)
class Detection:
    """How well one score tells triggered images from ordinary ones, with 95 % intervals."""

    auroc: Estimate
    recall: Estimate


def compare(
    fitted: Fitted,
    trusted: Labelled,
    traffic: Traffic,
    surprise: Mapping[str, Bits],
    *,
    progress: Progress,
) -> Mapping[str, Detection]:
    """Measure the surprise that the server told, by kind of traffic, and three other scores.

    ``recall`` is at 1 % false alarms among the ordinary images.
    """
    scores = {SURPRISE: (surprise["ordinary"], surprise["triggered"])}
    scores |= _peers(fitted, trusted, traffic)
    detection = {}
    for done, (name, (ordinary, triggered)) in enumerate(scores.items(), start=1):
        detection[name] = _measure(ordinary, triggered)
        progress("comparing with other scores", done=done, total=len(scores))
    return detection


def _peers(
    fitted: Fitted, trusted: Labelled, traffic: Traffic
) -> Mapping[str, tuple[Scores, Scores]]:
    """Score both kinds of traffic; fitted on the images that the codes were fitted on."""
    fitting = _see(fitted, trusted.images[fitted.rows.fitting])
    reference = _see(fitted, trusted.images[fitted.rows.reference])
    ordinary = _see(fitted, traffic.ordinary.images)
    triggered = _see(fitted, traffic.triggered.images)
    peers = {}
    for name, peer in (("Mahalanobis", mahalanobis), ("k-nearest neighbour", knn)):
        score = over_sites(peer, fitting.vectors, reference.vectors)
        peers[name] = (score(ordinary.vectors), score(triggered.vectors))
    return peers | {"max-softmax": (max_softmax(ordinary.output), max_softmax(triggered.output))}


def _see(fitted: Fitted, images: Images) -> Seen:
    sites = fitted.baseline.manifest.sites
    pooling = fitted.settings.decomposition.pooling
    return see(fitted.model, sites, {"image": images}, pooling, clock=time.perf_counter)


def _measure(ordinary: Scores, triggered: Scores) -> Detection:
    found = estimate(
        ("auroc", "recall_at_fpr_01"),
        ordinary.numpy(),
        triggered.numpy(),
        generator=np.random.default_rng(0),
    )
    area, recall = found["auroc"], found["recall_at_fpr_01"]
    assert area is not None
    assert recall is not None
    return Detection(area, recall)
