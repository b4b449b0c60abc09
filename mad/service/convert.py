"""Messages to values and back; the only file of the service that knows both."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Final

import torch
from google.protobuf.timestamp_pb2 import Timestamp
from torch import Tensor

from mad.baseline.bundle import Provenance
from mad.baseline.store import Entry
from mad.counterfactual import Counterfactual
from mad.errors import InputError
from mad.service import raw
from mad.service.raw import check_shape, raw_bytes, shown
from mad.types import Explanation, Inputs, Measure, Part, Term, Verdict
from mad.v1 import baselines_pb2, tensor_pb2, verdict_pb2

MAX_TENSORS: Final = 64

_DTYPES: Final[Mapping["tensor_pb2.DataType.ValueType", torch.dtype]] = {
    tensor_pb2.DATA_TYPE_FP32: torch.float32,
    tensor_pb2.DATA_TYPE_FP16: torch.float16,
    tensor_pb2.DATA_TYPE_BF16: torch.bfloat16,
    tensor_pb2.DATA_TYPE_FP64: torch.float64,
    tensor_pb2.DATA_TYPE_INT64: torch.int64,
    tensor_pb2.DATA_TYPE_INT32: torch.int32,
    tensor_pb2.DATA_TYPE_UINT8: torch.uint8,
    tensor_pb2.DATA_TYPE_BOOL: torch.bool,
}
_DATA_TYPES: Final = {dtype: number for number, dtype in _DTYPES.items()}
TERMS: Final[Mapping[Term, "verdict_pb2.Term.ValueType"]] = {
    "set": verdict_pb2.TERM_SET,
    "residual": verdict_pb2.TERM_RESIDUAL,
    "neighbours": verdict_pb2.TERM_NEIGHBOURS,
    "output": verdict_pb2.TERM_OUTPUT,
    "magnitudes": verdict_pb2.TERM_MAGNITUDES,
}
MEASURES: Final[Mapping[Measure, "verdict_pb2.Measure.ValueType"]] = {
    "surprise": verdict_pb2.MEASURE_SURPRISE,
    "mechanism": verdict_pb2.MEASURE_MECHANISM,
    "novelty": verdict_pb2.MEASURE_NOVELTY,
}


def inputs(messages: Sequence[tensor_pb2.Tensor]) -> Inputs:
    """Read a request's inputs, of which there is one at least; raises InputError as ``named``."""
    if not messages:
        raise InputError("the request has no inputs; send the model's named inputs")
    return named(messages)


def named(messages: Sequence[tensor_pb2.Tensor], *, what: str = "input") -> dict[str, Tensor]:
    """Read tensors by name; ``what`` they are is for messages. InputError as ``tensor`` does."""
    if len(messages) > MAX_TENSORS:
        raise InputError(f"the request has {len(messages)} {what}s; at most {MAX_TENSORS} are read")
    read: dict[str, Tensor] = {}
    for message in messages:
        if message.name in read:
            raise InputError(f"{what} {shown(message.name)} is given twice; send it once")
        read[message.name] = tensor(message, what=what)
    return read


def tensor(message: tensor_pb2.Tensor, *, what: str = "input") -> Tensor:
    """Read one tensor; the bytes are copied once.

    Raises InputError when type, shape and bytes do not fit together, naming the tensor.
    """
    name = f"{what} {shown(message.name)}"
    dtype = _DTYPES.get(message.data_type)
    if dtype is None:
        known = ", ".join(map(_type_name, _DTYPES))
        raise InputError(f"{name} has data_type {message.data_type}; use one of {known}")
    check_shape(name, message.shape)
    needed = math.prod(message.shape) * dtype.itemsize
    if len(message.data) != needed:
        raise InputError(
            f"{name} has {len(message.data)} bytes of data; shape {list(message.shape)} of "
            f"{_type_name(message.data_type)} needs {needed}"
        )
    return raw.tensor(name, message.shape, dtype, message.data)


def tensors(values: Mapping[str, Tensor]) -> list[tensor_pb2.Tensor]:
    """Write a model's outputs; raises InputError for an element type the wire does not have."""
    return [_tensor(name, value) for name, value in values.items()]


def verdict(value: Verdict) -> verdict_pb2.Verdict:
    """Write a verdict."""
    return verdict_pb2.Verdict(
        surprise_bits=value.surprise_bits,
        mechanism_bits=value.mechanism_bits,
        novelty_bits=value.novelty_bits,
        description_bits=value.description_bits,
        p_value=value.p_value,
        is_alert=value.is_alert,
        parts=map(_part, value.parts),
        context=value.context,
        active_components=value.active_components,
    )


def explanation(value: Explanation) -> verdict_pb2.Explanation:
    """Write an explanation."""
    return verdict_pb2.Explanation(
        charges=(
            verdict_pb2.Charge(
                site=charge.site,
                term=TERMS[charge.term],
                index=charge.index,
                bits=charge.bits,
                typical_bits=charge.typical_bits,
                magnitude=charge.magnitude,
                trusted_rate=charge.trusted_rate,
            )
            for charge in value.charges
        ),
        rest_bits=value.rest_bits,
        nearest=(
            verdict_pb2.SetNeighbour(
                site=site,
                row=found.row,
                distance=found.distance,
                shared=found.shared,
                missing=found.missing,
                extra=found.extra,
            )
            for site, found in value.nearest.items()
        ),
    )


def counterfactual(value: Counterfactual) -> verdict_pb2.Counterfactual:
    """Write what the model answers without something."""
    return verdict_pb2.Counterfactual(
        site=value.site,
        term=TERMS["set" if value.what == "components" else "residual"],
        removed=value.removed,
        absent=value.absent,
        label_before=value.label_before,
        label_after=value.label_after,
        output_change=value.output_change,
    )


def baseline(entry: Entry, *, is_loaded: bool) -> baselines_pb2.Baseline:
    """Write one version of a baseline as the store lists it."""
    manifest = entry.manifest
    return baselines_pb2.Baseline(
        name=manifest.name,
        version=manifest.version,
        is_active=entry.is_active,
        is_loaded=is_loaded,
        create_time=timestamp(manifest.created),
        model_fingerprint=manifest.model_fingerprint,
        decomposition_fingerprint=manifest.decomposition_fingerprint,
        sites=manifest.sites,
        fit_inputs=manifest.fit_inputs,
        weighing_inputs=manifest.weighing_inputs,
        reference_inputs=manifest.reference_inputs,
        false_alarm_rate=manifest.false_alarm_rate,
        alert_on=MEASURES[manifest.alert_on],
        by_context=manifest.by_context,
        threshold_bits=manifest.threshold_bits,
        median_bits=manifest.median_bits,
        digest=entry.digest,
        aliases=entry.aliases,
        provenance=provenance(entry.provenance),
    )


def provenance(value: Provenance) -> baselines_pb2.Provenance:
    """Write where the data of a version came from."""
    return baselines_pb2.Provenance(**asdict(value))


def timestamp(time: datetime) -> Timestamp:
    """Write a time that knows its zone."""
    assert time.tzinfo is not None
    message = Timestamp()
    message.FromDatetime(time)
    return message


def _part(value: Part) -> verdict_pb2.Part:
    return verdict_pb2.Part(
        site=value.site,
        term=TERMS[value.term],
        bits=value.bits,
        rarity_bits=value.rarity_bits,
        rare_components_bits=value.rare_components_bits,
    )


def _tensor(name: str, value: Tensor) -> tensor_pb2.Tensor:
    if value.dtype not in _DATA_TYPES:
        raise InputError(
            f"output {shown(name)} is {value.dtype}, which this API cannot carry; leave "
            "include_outputs off"
        )
    return tensor_pb2.Tensor(
        name=name,
        data_type=_DATA_TYPES[value.dtype],
        shape=value.shape,
        data=raw_bytes(value),
    )


def _type_name(data_type: "tensor_pb2.DataType.ValueType") -> str:
    return tensor_pb2.DataType.Name(data_type).removeprefix("DATA_TYPE_")
