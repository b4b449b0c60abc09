"""What a caller that runs the tiny world's model itself would send."""

from dataclasses import replace

import torch

from mad.capture.hooks import capture
from mad.client import activations
from mad.payloads import ActivationBatch, CodeBatch, ViewCodes
from mad.scoring import context_of
from mad.types import Inputs
from mad.v1 import scoring_pb2 as pb
from tests.worlds import World


def activations_of(world: World, inputs: Inputs) -> ActivationBatch:
    """Run the model here, and keep what the sites give."""
    run = capture(world.model, world.decomposition.sites, inputs)
    return ActivationBatch(run.activations, run.outputs, world.model.fingerprint)


def codes_of(world: World, inputs: Inputs) -> CodeBatch:
    """Run the model and its dictionaries here, and keep the active sets."""
    run = capture(world.model, world.decomposition.sites, inputs)
    found = world.decomposition.activity(run.activations)
    batch = len(next(iter(inputs.values())))
    return CodeBatch(
        views={
            view: ViewCodes(one.counts, one.components, one.magnitudes)
            for view, one in found.items()
            if one.num_components
        },
        contexts=context_of(run.outputs, "predicted", batch=batch),
        model_fingerprint=world.model.fingerprint,
        decomposition_fingerprint=world.decomposition.fingerprint,
    )


def with_view(batch: CodeBatch, view: str, **changed: torch.Tensor) -> CodeBatch:
    """Return the batch with something else in one view."""
    return replace(batch, views={**batch.views, view: replace(batch.views[view], **changed)})


def activation_message(batch: ActivationBatch) -> pb.ActivationBatch:
    """Write activations as a caller would."""
    return activations(
        batch.activations, outputs=batch.outputs, model_fingerprint=batch.model_fingerprint
    )


def code_message(batch: CodeBatch) -> pb.CodeBatch:
    """Write active sets as a caller would."""
    return pb.CodeBatch(
        views=[
            pb.ViewCodes(
                view=view,
                counts=codes.counts.tolist(),
                components=codes.components.tolist(),
                magnitudes=codes.magnitudes.tolist(),
            )
            for view, codes in batch.views.items()
        ],
        contexts=batch.contexts.tolist(),
        model_fingerprint=batch.model_fingerprint,
        decomposition_fingerprint=batch.decomposition_fingerprint,
    )
