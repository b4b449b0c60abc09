"""What was run elsewhere, as our own run of the model would have been observed."""

import time
from collections.abc import Callable

import torch
from torch.nn import functional

from mad.baseline.bundle import Baseline
from mad.components.base import Decomposition
from mad.payloads.batches import ActivationBatch, CodeBatch, ViewCodes
from mad.payloads.wanted import asks_for_labels, widths
from mad.scoring import MAX_CONTEXTS, Observed, context_of
from mad.types import Activity, Context


def observed_activations(
    batch: ActivationBatch,
    decomposition: Decomposition,
    baseline: Baseline,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Observed:
    """Return what our own run of the model would have been observed as."""
    start = clock()
    found = decomposition.activity(batch.activations)
    context = context_of(batch.outputs, baseline.manifest.context, batch=batch.size)
    return Observed({}, found, context, {"components": clock() - start})


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
