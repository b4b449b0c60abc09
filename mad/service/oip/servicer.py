"""The protocol's methods, whatever the mode."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NoReturn, final

import grpc
from google.protobuf.message import Message

from mad import __version__
from mad.errors import TooLargeError
from mad.service.answering import Answering
from mad.service.calls import Context, check_size
from mad.service.errors import answer_to
from mad.service.oip import inference_pb2 as pb, scores, wire
from mad.service.oip.forms import Repeated, Request, alike
from mad.service.oip.mode import Mode
from mad.service.oip.model import SERVICE
from mad.service.streaming import answered, check_open

_GRPC_ERRORS: Final = "triton_grpc_error"
_WANTS_FINAL: Final = "triton_enable_empty_final_response"
_FINAL: Final = "triton_final_response"
_PASSED_ON: Final = ("grpc-status-details-bin", "grpc-retry-pushback-ms")
"""Trailers of an upstream server's error that say more of it."""


@final
@dataclass(frozen=True, kw_only=True)
class InferenceServicer:
    """Answers the Open Inference Protocol and Triton's streams; what else Triton has is unknown.

    ``read`` reads the bytes of a request for an inference. ``together`` answers repeated requests
    that are alike by one run of the model; where it is None, each is answered by itself.
    """

    mode: Mode
    read: Callable[[bytes], Request]
    together: Callable[[Sequence[Repeated]], Awaitable[Sequence[bytes]]] | None
    answering: Answering
    is_ready: Callable[[], bool]
    max_message_bytes: int
    stream_requests: int
    draining: asyncio.Event

    async def server_live(
        self, request: pb.ServerLiveRequest, context: Context
    ) -> pb.ServerLiveResponse:
        """Say that the server runs."""
        return pb.ServerLiveResponse(live=True)

    async def server_ready(
        self, request: pb.ServerReadyRequest, context: Context
    ) -> pb.ServerReadyResponse:
        """Say whether it takes requests."""
        return pb.ServerReadyResponse(ready=self.is_ready())

    async def model_ready(
        self, request: pb.ModelReadyRequest, context: Context
    ) -> pb.ModelReadyResponse:
        """Say whether it takes requests for a model; it does not for one that it does not have."""
        is_ours = self.mode.name.is_named(request.name, request.version)
        return pb.ModelReadyResponse(ready=is_ours and self.is_ready())

    async def server_metadata(
        self, request: pb.ServerMetadataRequest, context: Context
    ) -> pb.ServerMetadataResponse:
        """Name the server."""
        return pb.ServerMetadataResponse(
            name="mad", version=__version__, extensions=[scores.EXTENSION]
        )

    async def model_metadata(
        self, request: pb.ModelMetadataRequest, context: Context
    ) -> pb.ModelMetadataResponse:
        """Describe a model's inputs and outputs, and the scores that the caller may read."""
        self.mode.name.check(request.name, request.version)
        try:
            described = await self.mode.metadata(context)
        except grpc.aio.AioRpcError as error:
            await _pass_on(error, context)
        described.outputs.extend(scores.described())
        return described

    async def repository_index(
        self, request: pb.RepositoryIndexRequest, context: Context
    ) -> pb.RepositoryIndexResponse:
        """List the one model."""
        name, is_ready = self.mode.name, self.is_ready()
        index = pb.RepositoryIndexResponse()
        if is_ready or not request.ready:
            state = "READY" if is_ready else "UNAVAILABLE"
            index.models.add(name=name.model, version=name.version, state=state)
        return index

    async def model_infer(self, request: Request, context: Context) -> bytes:
        """Answer with the model's outputs and the scores."""
        try:
            return await self._inferred(request, context)
        except grpc.aio.AioRpcError as error:
            await _pass_on(error, context)

    async def model_stream_infer(
        self, requests: AsyncIterator[Request], context: Context
    ) -> AsyncIterator[bytes]:
        """Answer each request, in their order; an error is an answer, or ends it if so asked."""
        ends = (_GRPC_ERRORS, "true") in (context.invocation_metadata() or ())

        async def answer(group: Sequence[Request]) -> Sequence[bytes]:
            if len(group) > 1 and (found := await self._together(group)):
                return found
            one = partial(self._stream_answer, context=context, raises=ends)
            return await asyncio.gather(*map(one, group)) if group[1:] else [await one(group[0])]

        # What ends the stream ends it after the answers before it, so nothing goes with it.
        most = 1 if ends else self.answering.batcher.max_batch
        answers = answered(
            requests,
            answer,
            at_once=self.stream_requests,
            draining=self.draining,
            in_order=True,
            groups=partial(alike, most=most),
        )
        try:
            async for each in answers:
                yield each
        except grpc.aio.AioRpcError as error:
            await _pass_on(error, context)

    async def _inferred(self, request: Request, context: Context) -> bytes:
        self.mode.name.check(request.model_name, request.model_version)
        self.answering.begin(request.id)
        try:
            return await self.mode.infer(request, context)
        finally:
            self.answering.end()

    async def _together(self, group: Sequence[Request]) -> Sequence[bytes] | None:
        """Answer alike requests of a stream at once; None if each must be answered by itself."""
        if self.together is None:
            return None
        requests = [one for one in group if isinstance(one, Repeated)]
        begun = 0
        try:
            check_open(self.draining)
            self.mode.name.check(requests[0].model_name, requests[0].model_version)
            for request in requests:
                self.answering.begin(request.id)
                begun += 1
            answers = await self.together(requests)
        except Exception:  # noqa: BLE001  # who is to blame is found and told one by one
            return None
        finally:
            for _ in range(begun):
                self.answering.end()
        return [self._sized(*pair) for pair in zip(requests, answers, strict=True)]

    def _sized(self, request: Request, answer: bytes) -> bytes:
        try:
            check_size(len(answer), self.max_message_bytes)
        except TooLargeError as error:
            return self._failed(request, error)
        return wire.streamed(answer)

    def _failed(self, request: Request, error: Exception) -> bytes:
        answer = pb.ModelStreamInferResponse(error_message=self._told(error))
        answer.infer_response.id = request.id
        return answer.SerializeToString()

    async def _stream_answer(self, request: Request, context: Context, *, raises: bool) -> bytes:
        try:
            check_open(self.draining)
            response = await self._inferred(request, context)
            if _WANTS_FINAL in request.parameters:
                response += wire.truth(_FINAL, value=True)
            check_size(len(response), self.max_message_bytes)
            return wire.streamed(response)
        except Exception as error:
            if raises:
                raise
            return self._failed(request, error)

    def _told(self, error: Exception) -> str:
        if isinstance(error, grpc.aio.AioRpcError):
            return error.details() or error.code().name
        return answer_to(error, self.answering.metrics, method="ModelStreamInfer")[1]


def add_to_server(servicer: InferenceServicer, server: grpc.aio.Server) -> None:
    """Serve the protocol."""
    unary: dict[str, tuple[Callable[..., Any], Callable[[bytes], Any]]] = {
        "ServerLive": (servicer.server_live, pb.ServerLiveRequest.FromString),
        "ServerReady": (servicer.server_ready, pb.ServerReadyRequest.FromString),
        "ModelReady": (servicer.model_ready, pb.ModelReadyRequest.FromString),
        "ServerMetadata": (servicer.server_metadata, pb.ServerMetadataRequest.FromString),
        "ModelMetadata": (servicer.model_metadata, pb.ModelMetadataRequest.FromString),
        "RepositoryIndex": (servicer.repository_index, pb.RepositoryIndexRequest.FromString),
        "ModelInfer": (servicer.model_infer, servicer.read),
    }
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            answer, request_deserializer=read, response_serializer=_serialised
        )
        for name, (answer, read) in unary.items()
    }
    handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
        servicer.model_stream_infer,
        request_deserializer=servicer.read,
        response_serializer=_serialised,
    )
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])


def _serialised(message: Message | bytes) -> bytes:
    # What is answered often is encoded already.
    return message if isinstance(message, bytes) else message.SerializeToString()


async def _pass_on(error: grpc.aio.AioRpcError, context: Context) -> NoReturn:
    """End a call as the upstream server ended its own."""
    kept = tuple(pair for pair in error.trailing_metadata() or () if pair[0] in _PASSED_ON)
    await context.abort(error.code(), error.details() or "", kept)
    raise AssertionError("abort raises")
