"""A request for scores to what is to be judged; beside ``convert``, which has its tensors."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from mad.errors import InputError
from mad.payloads import ActivationBatch, CodeBatch, Payload, ViewCodes
from mad.service import convert
from mad.service.raw import shown
from mad.types import View
from mad.v1 import scoring_pb2 as pb


def payload(request: pb.ScoreRequest) -> Payload:
    """Read what a request sends to be judged; InputError where it is not one thing, or unreadable.

    What is in it is for the monitor to check.
    """
    kind = request.WhichOneof("payload")
    if kind is not None and request.inputs:
        raise InputError(
            f"the request has {len(request.inputs)} inputs and {kind} in their place; send one"
        )
    if kind is not None and request.options.include_outputs:
        raise InputError(
            f"the model is not run for {kind}, so there are no outputs; leave include_outputs off"
        )
    match kind:
        case "activations":
            return _activations(request.activations)
        case "codes":
            return _codes(request.codes)
        case None:
            return convert.inputs(request.inputs)


def _activations(message: pb.ActivationBatch) -> ActivationBatch:
    return ActivationBatch(
        activations=convert.named(message.sites, what="site"),
        outputs=convert.named(message.outputs, what="output"),
        model_fingerprint=message.model_fingerprint,
    )


def _codes(message: pb.CodeBatch) -> CodeBatch:
    views: dict[View, ViewCodes] = {}
    for own in message.views:
        if own.view in views:
            raise InputError(f"view {shown(own.view)} is given twice; send it once")
        views[own.view] = ViewCodes(
            counts=_integers(own.counts),
            components=_integers(own.components),
            magnitudes=torch.from_numpy(np.array(own.magnitudes, dtype=np.float32)),
        )
    return CodeBatch(
        views=views,
        contexts=_integers(message.contexts),
        model_fingerprint=message.model_fingerprint,
        decomposition_fingerprint=message.decomposition_fingerprint,
    )


def _integers(numbers: Sequence[int]) -> Int64[Tensor, " number"]:
    # By way of an array: a tensor of a message's numbers takes eighty times as long.
    return torch.from_numpy(np.array(numbers, dtype=np.int64))
