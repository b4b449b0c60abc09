"""An upstream server of the protocol with a will of its own: it answers what a test tells it to."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import torch

from mad.capture.hooks import capture
from mad.capture.model import MonitoredModel
from mad.service.oip import inference_pb2 as pb
from mad.service.oip.model import SERVICE
from mad.service.oip.tensors import inputs, written
from tests.worlds import tiny_module

OUTPUTS = {"logits": "4", "layer_one": "1", "layer_three": "3"}
"""Its outputs, and the modules of the tiny world whose outputs they are."""


@dataclass
class Other:
    """Runs the tiny world's model under other names, and keeps what it was asked."""

    model: MonitoredModel = field(
        default_factory=lambda: MonitoredModel.of(tiny_module().eval(), name="net", inputs=["x"])
    )
    address: str = ""
    is_ready: bool = True
    asked: list[pb.ModelInferRequest] = field(default_factory=list)
    headers: list[dict[str, Any]] = field(default_factory=list)
    cancelled: int = 0
    delay_s: float = 0.0
    fail: Callable[[Any], Any] | None = None
    is_typed: bool = False

    async def infer(self, request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:
        self.asked.append(request)
        self.headers.append(dict(context.invocation_metadata()))
        try:
            await asyncio.sleep(self.delay_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.fail is not None:
            await self.fail(context)
        ran = capture(self.model, list(OUTPUTS.values()), inputs(request))
        response = pb.ModelInferResponse(model_name="net", model_version="3", id=request.id)
        response.parameters["theirs"].int64_param = 5
        for name in [output.name for output in request.outputs] or OUTPUTS:
            self._add(response, name, ran.activations[OUTPUTS[name]])
        return response

    def _add(self, response: pb.ModelInferResponse, name: str, tensor: torch.Tensor) -> None:
        if self.is_typed:
            added = response.outputs.add(name=name, datatype="FP32", shape=tensor.shape)
            added.contents.fp32_contents.extend(tensor.flatten().tolist())
        else:
            raw = written(name, tensor)
            response.outputs.add(name=name, datatype=raw.datatype, shape=raw.shape)
            response.raw_output_contents.append(raw.content)

    async def ready(self, request: pb.ModelReadyRequest, _: Any) -> pb.ModelReadyResponse:
        return pb.ModelReadyResponse(ready=self.is_ready and request.name == "net")

    async def metadata(self, _: Any, __: Any) -> pb.ModelMetadataResponse:
        described = pb.ModelMetadataResponse(name="net", versions=["3"], platform="theirs")
        for name in OUTPUTS:
            described.outputs.add(name=name, datatype="FP32", shape=[-1, -1])
        return described


@asynccontextmanager
async def serving(other: Other, *, port: int = 0) -> AsyncIterator[Other]:
    """Serve it on a free port, or on one that it had before."""
    methods: dict[str, tuple[Any, Any]] = {
        "ModelInfer": (other.infer, pb.ModelInferRequest),
        "ModelReady": (other.ready, pb.ModelReadyRequest),
        "ModelMetadata": (other.metadata, pb.ModelMetadataRequest),
    }
    handlers: dict[str, Any] = {
        name: grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=kind.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
        for name, (answer, kind) in methods.items()
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    other.address = f"127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    await server.start()
    try:
        yield other
    finally:
        await server.stop(0)
