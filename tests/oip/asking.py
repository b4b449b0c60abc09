"""A plain client of the Open Inference Protocol, over our own messages."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

import grpc
import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray
from torch import Tensor

from mad.service.oip import inference_pb2 as pb
from mad.service.oip.model import SERVICE

Answer = TypeVar("Answer", bound=Message)
DTYPES = {"FP32": np.float32, "FP64": np.float64, "BOOL": np.bool_, "INT64": np.int64}


async def ask(
    channel: grpc.aio.Channel, method: str, request: Message | bytes, answer: type[Answer]
) -> Answer:
    """Call a unary method; a request may be any bytes."""
    content = request if isinstance(request, bytes) else request.SerializeToString()
    call: Any = channel.unary_unary(f"/{SERVICE}/{method}", response_deserializer=answer.FromString)
    return cast("Answer", await call(content, timeout=20))


async def infer(
    channel: grpc.aio.Channel, request: pb.ModelInferRequest | bytes
) -> pb.ModelInferResponse:
    """Call ModelInfer."""
    return await ask(channel, "ModelInfer", request, pb.ModelInferResponse)


async def stream(
    channel: grpc.aio.Channel,
    requests: Iterable[pb.ModelInferRequest],
    *,
    headers: Sequence[tuple[str, str]] = (),
) -> list[pb.ModelStreamInferResponse]:
    """Call ModelStreamInfer and gather its answers."""
    call: Any = channel.stream_stream(
        f"/{SERVICE}/ModelStreamInfer",
        request_serializer=pb.ModelInferRequest.SerializeToString,
        response_deserializer=pb.ModelStreamInferResponse.FromString,
    )
    return [answer async for answer in call(iter(requests), metadata=headers, timeout=90)]


def raw(
    inputs: Mapping[str, Tensor],
    *outputs: str,
    model: str = "tiny",
    request_id: str = "",
    **parameters: str | bool,
) -> pb.ModelInferRequest:
    """Return a request with raw contents; parameters are ours, named without their prefix."""
    request = pb.ModelInferRequest(model_name=model, id=request_id)
    for name, value in inputs.items():
        request.inputs.add(name=name, datatype="FP32", shape=value.shape)
        request.raw_input_contents.append(value.numpy().tobytes())
    for name in outputs:
        request.outputs.add(name=name)
    for key, given in parameters.items():
        parameter = request.parameters[f"mad.{key}"]
        if isinstance(given, bool):
            parameter.bool_param = given
        else:
            parameter.string_param = given
    return request


def output(response: pb.ModelInferResponse, name: str) -> NDArray[Any]:
    """Read an output that came raw."""
    index = [each.name for each in response.outputs].index(name)
    described = response.outputs[index]
    content = response.raw_output_contents[index]
    return np.frombuffer(content, DTYPES[described.datatype]).reshape(tuple(described.shape))
