"""What was run elsewhere, as our own run of the model would have been observed."""

import time
from collections.abc import Callable, Mapping

import torch
from torch.nn import functional

from mad.baseline.bundle import Baseline
from mad.capture.heights import filled
from mad.payloads.batches import ActivationBatch, CodeBatch, ViewCodes
from mad.payloads.wanted import asks_for_labels, widths
from mad.scoring import MAX_CONTEXTS, Observed, Scorer, context_of
from mad.types import Activations, Activity, Context, View


def observed_activations(
    batch: ActivationBatch,
    scorer: Scorer,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Observed:
    """Return what the scorer's own run of the model would have been observed as."""
    start = clock()
    found = [
        _decomposed(batch.activations, scorer, *run) for run in scorer.heights.runs(batch.size)
    ]
    activity = (
        found[0]
        if len(found) == 1
        else {view: Activity.joined([one[view] for one in found]) for view in found[0]}
    )
    context = context_of(batch.outputs, scorer.context, batch=batch.size)
    return Observed({}, activity, context, {"components": clock() - start})


def _decomposed(
    activations: Activations, scorer: Scorer, start: int, stop: int, height: int
) -> Mapping[View, Activity]:
    """Decompose some inputs at a height at which an input has the same bits in any company."""
    own = {site: tensor[start:stop] for site, tensor in activations.items()}
    seen = scorer.decomposition.activity(filled(own, height))
    if height == stop - start:
        return seen
    return {view: one.take(torch.arange(stop - start)) for view, one in seen.items()}


def observed_codes(batch: CodeBatch, baseline: Baseline) -> Observed:
    """Return the same with nothing known of activations but the active sets."""
    width_of = widths(baseline)
    context = batch.contexts % MAX_CONTEXTS if asks_for_labels(baseline) else _unlabelled(batch)
    activity = {view: _activity(batch.views[view], width) for view, width in width_of.items()}
    return Observed({}, activity, context, {})


def _unlabelled(batch: CodeBatch) -> Context:
    return torch.full((batch.size,), -1)


def _activity(codes: ViewCodes, width: int) -> Activity:
    nothing = torch.zeros(len(codes.counts), 0)
    return Activity(
        offsets=functional.pad(codes.counts.cumsum(dim=0), (1, 0)),
        components=codes.components,
        magnitudes=codes.magnitudes,
        residual=nothing,
        activation=nothing,
        num_components=width,
    )
