"""Arrays in, messages of ``mad.v1`` out, by the buffer protocol alone."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, cast

from mad.errors import InputError
from mad.v1 import alerts_pb2, scoring_pb2, streams_pb2, tensor_pb2, verdict_pb2

if TYPE_CHECKING:
    from typing_extensions import Buffer

# Kind and size of an element, as the buffer protocol names them.
_BUFFER_TYPES: Final = {
    ("f", 4): tensor_pb2.DATA_TYPE_FP32,
    ("e", 2): tensor_pb2.DATA_TYPE_FP16,
    ("d", 8): tensor_pb2.DATA_TYPE_FP64,
    ("q", 8): tensor_pb2.DATA_TYPE_INT64,
    ("l", 8): tensor_pb2.DATA_TYPE_INT64,
    ("i", 4): tensor_pb2.DATA_TYPE_INT32,
    ("l", 4): tensor_pb2.DATA_TYPE_INT32,
    ("B", 1): tensor_pb2.DATA_TYPE_UINT8,
    ("?", 1): tensor_pb2.DATA_TYPE_BOOL,
}


class Array(Protocol):
    """A NumPy array, or one of a library that has a ``numpy()`` method, such as a torch tensor."""

    @property
    def shape(self) -> Sequence[int]:
        """Lengths of the axes."""


TensorLike: TypeAlias = "tensor_pb2.Tensor | Buffer | Array"
"""A message, an array, or anything else with the buffer protocol, such as ``array.array``."""


def tensor(name: str, array: TensorLike) -> tensor_pb2.Tensor:
    """Write one array as a message under a name; InputError for what the wire cannot carry."""
    if isinstance(array, tensor_pb2.Tensor):
        return array
    try:
        view = memoryview(cast("Buffer", getattr(array, "numpy", lambda: array)()))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"input {name!r} is no array ({error}); make it one, as numpy.asarray does"
        ) from error
    data_type = _BUFFER_TYPES.get((view.format.lstrip("@=<"), view.itemsize))
    if data_type is None:
        raise InputError(
            f"input {name!r} has elements of type {view.format!r}; convert it to float32 or "
            "another type of this API, in native byte order"
        )
    return tensor_pb2.Tensor(
        name=name, data_type=data_type, shape=view.shape, data=view.tobytes(order="C")
    )


Scored: TypeAlias = Mapping[str, TensorLike] | scoring_pb2.ActivationBatch | scoring_pb2.CodeBatch
"""Named inputs, or what a caller that runs the model itself sends in their place."""


def activations(
    sites: Mapping[str, TensorLike],
    *,
    model_fingerprint: str,
    outputs: Mapping[str, TensorLike] | None = None,
) -> scoring_pb2.ActivationBatch:
    """Write what the model computed at the baseline's sites, and what it answered.

    Outputs may be left out where the baseline's codes do not depend on the predicted label.
    """
    return scoring_pb2.ActivationBatch(
        sites=[tensor(name, array) for name, array in sites.items()],
        outputs=[tensor(name, array) for name, array in (outputs or {}).items()],
        model_fingerprint=model_fingerprint,
    )


def codes(
    views: Mapping[str, tuple[Iterable[int], Iterable[int], Iterable[float]]],
    *,
    model_fingerprint: str,
    decomposition_fingerprint: str,
    contexts: Iterable[int] = (),
) -> scoring_pb2.CodeBatch:
    """Write active sets: of each view how many components an input uses, which, and how strongly.

    Contexts are the labels that the model predicted, one an input, where it predicts any.
    """
    return scoring_pb2.CodeBatch(
        views=[
            scoring_pb2.ViewCodes(
                view=view, counts=counts, components=components, magnitudes=magnitudes
            )
            for view, (counts, components, magnitudes) in views.items()
        ],
        contexts=contexts,
        model_fingerprint=model_fingerprint,
        decomposition_fingerprint=decomposition_fingerprint,
    )


def request(
    inputs: Scored,
    *,
    baseline: str = "",
    request_id: str = "",
    options: scoring_pb2.ScoreOptions | None = None,
) -> scoring_pb2.ScoreRequest:
    """Build a request for scores.

    It gets an id if it is given none, so that the retries of this client raise no second alert.
    """
    message = scoring_pb2.ScoreRequest(
        baseline=baseline, request_id=request_id or uuid.uuid4().hex, options=options
    )
    match inputs:
        case scoring_pb2.ActivationBatch():
            message.activations.CopyFrom(inputs)
        case scoring_pb2.CodeBatch():
            message.codes.CopyFrom(inputs)
        case _:
            message.inputs.extend(tensor(name, array) for name, array in inputs.items())
    return message


def as_request(
    inputs: Scored | scoring_pb2.ScoreRequest,
    baseline: str,
    options: scoring_pb2.ScoreOptions | None,
) -> scoring_pb2.ScoreRequest:
    """Return a request as it is, or build one."""
    if isinstance(inputs, scoring_pb2.ScoreRequest):
        return inputs
    return request(inputs, baseline=baseline, options=options)


def explain_request(
    inputs: Mapping[str, TensorLike], baseline: str, max_charges: int, *, counterfactuals: bool
) -> scoring_pb2.ExplainRequest:
    """Build a request for an explanation."""
    return scoring_pb2.ExplainRequest(
        baseline=baseline,
        inputs=[tensor(name, array) for name, array in inputs.items()],
        max_charges=max_charges,
        include_counterfactuals=counterfactuals,
    )


def term(message: verdict_pb2.Part | verdict_pb2.Charge | alerts_pb2.Mechanism) -> str:
    """Name what a part or a charge describes, such as set or residual; or its bare number.

    A newer server may know terms that this client does not.
    """
    known = verdict_pb2.Term.DESCRIPTOR.values_by_number.get(message.term)
    return known.name.removeprefix("TERM_").lower() if known else str(message.term)


def channel(message: streams_pb2.StreamEvidence) -> str:
    """Name the channel of some evidence: fast or never_false; or its bare number, as ``term``."""
    known = streams_pb2.StreamChannel.DESCRIPTOR.values_by_number.get(message.channel)
    return known.name.removeprefix("STREAM_CHANNEL_").lower() if known else str(message.channel)
