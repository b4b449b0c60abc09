"""What Envoy is told of a request: headers that say what was found, or a refusal.

Whatever goes wrong here, the request goes on: the model server's answer matters more to its caller
than ours.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, final

import grpc

from mad.service.answering import Answer, Answering, Question
from mad.service.calls import Context
from mad.service.oip import inference_pb2 as oip, tensors
from mad.service.oip.ext_proc import ext_proc_pb2 as pb, frames
from mad.service.oip.unscored import inputs_in, reason_of
from mad.types import Verdict

SERVICE: Final = "envoy.service.ext_proc.v3.ExternalProcessor"
INFER: Final = "/inference.GRPCInferenceService/ModelInfer"
ALERT: Final = "x-mad-alert"
SURPRISE: Final = "x-mad-surprise-bits"
BASELINE: Final = "x-mad-baseline"
UNSCORED: Final = "unscored"

Reaction: TypeAlias = Literal["tell", "block"]
"""What a request that raises an alert gets: headers on its way, or PERMISSION_DENIED."""

_FORBIDDEN: Final = 403


@final
@dataclass(frozen=True, kw_only=True)
class ExternalProcessor:
    """Scores unary inferences; other requests pass unseen.

    What callers say to mad in their parameters is not heeded, since it is Envoy that asks here: no
    caller can call its own traffic canary.
    """

    answering: Answering
    reaction: Reaction

    async def process(
        self, requests: AsyncIterator[pb.ProcessingRequest], context: Context
    ) -> AsyncIterator[pb.ProcessingResponse]:
        """Answer each part of one request of Envoy's."""
        is_inference = False
        async for part in requests:
            kind = part.WhichOneof("request")
            if kind == "request_headers":
                is_inference = _path(part.request_headers.headers) == INFER
            if kind == "request_body" and is_inference:
                answer = await self._judged(part.request_body.body)
            else:
                answer = _passed(kind)
            if not part.observability_mode:
                yield answer

    async def _judged(self, body: bytes) -> pb.ProcessingResponse:
        request = oip.ModelInferRequest()
        try:
            frames.read(body, request)
            monitor = self.answering.registry.resolve("")
            question = Question(
                monitor=monitor, payload=tensors.inputs(request), request_id=request.id
            )
            self.answering.begin(request.id)
            try:
                answer = await self.answering.answer(question)
            finally:
                self.answering.end()
        except Exception as error:  # noqa: BLE001  # reason_of logs what is not ours
            reason = reason_of(error, self.answering.metrics, method="Process")
            self.answering.metrics.unscored(inputs_in(request), reason)
            return _with_headers({ALERT: UNSCORED})
        if self.reaction == "block" and _raises(answer.judgement.verdicts):
            return _refused(answer)
        return _with_headers(_told(answer, monitor.baseline.revision))


def add_to_server(servicer: ExternalProcessor, server: grpc.aio.Server) -> None:
    """Serve the protocol."""
    process: Any = grpc.stream_stream_rpc_method_handler(
        servicer.process,
        request_deserializer=pb.ProcessingRequest.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )
    handler = grpc.method_handlers_generic_handler(SERVICE, {"Process": process})
    server.add_generic_rpc_handlers([handler])


def _path(headers: pb.HeaderMap) -> str:
    for header in headers.headers:
        if header.key == ":path":
            return header.value or header.raw_value.decode(errors="replace")
    return ""


def _passed(kind: str | None) -> pb.ProcessingResponse:
    """Go on after a part, whatever it is."""
    answer = pb.ProcessingResponse()
    if kind is not None:
        part: Any = getattr(answer, kind)
        part.SetInParent()
    return answer


def _raises(verdicts: Sequence[Verdict]) -> bool:
    return any(one.is_alert for one in verdicts)


def _told(answer: Answer, revision: str) -> dict[str, str]:
    verdicts = answer.judgement.verdicts
    return {
        ALERT: "true" if _raises(verdicts) else "false",
        SURPRISE: f"{max(one.surprise_bits for one in verdicts):.3f}",
        BASELINE: revision,
    }


def _with_headers(headers: dict[str, str]) -> pb.ProcessingResponse:
    answer = pb.ProcessingResponse()
    mutation = answer.request_body.response.header_mutation
    for name, value in headers.items():
        mutation.set_headers.add(
            header=pb.HeaderValue(key=name, raw_value=value.encode()),
            append_action=pb.OVERWRITE_IF_EXISTS_OR_ADD,
        )
    return answer


def _refused(answer: Answer) -> pb.ProcessingResponse:
    """Refuse without a word on what was surprising: whoever probes learns no more than that."""
    ids = ", ".join(filter(None, answer.alert_ids.values()))
    return pb.ProcessingResponse(
        immediate_response=pb.ImmediateResponse(
            status=pb.HttpStatus(code=_FORBIDDEN),
            grpc_status=pb.GrpcStatus(status=grpc.StatusCode.PERMISSION_DENIED.value[0]),
            body=f"the request is refused{f'; alert {ids}' if ids else ''}".encode(),
            details="mad_alert",
        )
    )
