"""The scoring servicer: requests in; scores, durable alerts and explanations out."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, final

from mad.counterfactual import Counterfactual
from mad.errors import InputError, TooLargeError
from mad.metrics import Metrics, Traffic
from mad.monitor import Monitor
from mad.service import convert
from mad.service.alert_writer import AlertWriter, drafts
from mad.service.batching import Batcher
from mad.service.calls import Context, check_size
from mad.service.errors import answer_to, request_id
from mad.service.registry import Registry
from mad.service.streaming import answered
from mad.service.watch import StreamWatch
from mad.types import Inputs
from mad.v1 import scoring_pb2 as pb, scoring_pb2_grpc as rpc

MAX_REQUEST_ID: Final = 128
MAX_CHARGES: Final = 1024
DEFAULT_CHARGES: Final = 20
STREAM_REQUESTS_AT_ONCE: Final = 256

_TRAFFIC: Final[Mapping[int, Traffic]] = {
    pb.TRAFFIC_UNSPECIFIED: "live",
    pb.TRAFFIC_LIVE: "live",
    pb.TRAFFIC_TRUSTED: "trusted",
    pb.TRAFFIC_CANARY: "canary",
}


@final
@dataclass(frozen=True, kw_only=True)
class ScoringServicer(rpc.ScoringServiceServicer):
    """Answers Score, ScoreStream and Explain."""

    registry: Registry
    batcher: Batcher
    alerts: AlertWriter
    watch: StreamWatch
    metrics: Metrics
    max_request_inputs: int
    max_message_bytes: int
    clock: Callable[[], datetime]
    draining: asyncio.Event

    async def Score(self, request: pb.ScoreRequest, context: Context) -> pb.ScoreResponse:
        """Return one score for each input, in order."""
        with self._in_flight(request.request_id):
            return await self._score(request)

    def ScoreStream(
        self, request_iterator: AsyncIterator[pb.ScoreStreamRequest], context: Context
    ) -> AsyncIterator[pb.ScoreStreamResponse]:
        """Answer each request as it comes; one that fails gets its error and ends nothing."""
        return answered(
            request_iterator,
            self._stream_answer,
            at_once=STREAM_REQUESTS_AT_ONCE,
            draining=self.draining,
        )

    async def Explain(self, request: pb.ExplainRequest, context: Context) -> pb.ExplainResponse:
        """Split the surprise of one input; raises no alert."""
        if not 0 <= request.max_charges <= MAX_CHARGES:
            raise InputError(f"max_charges is {request.max_charges}; ask for 0 to {MAX_CHARGES}")
        with self._in_flight(""):
            monitor = self.registry.resolve(request.baseline, model=request.model)
            inputs = convert.inputs(request.inputs)
            monitor.check(inputs)
            if (size := max(map(len, inputs.values()))) != 1:
                raise InputError(f"the batch size is {size}; explain one input at a time")
            verdict, explanation = await self.batcher.explain(
                monitor, inputs, max_charges=request.max_charges or DEFAULT_CHARGES
            )
            without: tuple[Counterfactual, ...] = ()
            if request.include_counterfactuals:
                find = partial(monitor.counterfactuals, inputs, explanation)
                without = await self.batcher.call(find)
        return pb.ExplainResponse(
            verdict=convert.verdict(verdict),
            explanation=convert.explanation(explanation),
            baseline_revision=monitor.baseline.revision,
            counterfactuals=map(convert.counterfactual, without),
        )

    async def _stream_answer(self, message: pb.ScoreStreamRequest) -> pb.ScoreStreamResponse:
        request = message.request
        answer = pb.ScoreStreamResponse(request_id=request.request_id)
        try:
            with self._in_flight(request.request_id):
                answer.response.CopyFrom(await self._score(request))
                check_size(answer.ByteSize(), self.max_message_bytes)
        except Exception as error:  # noqa: BLE001  # answer_to logs what is not ours
            code, text = answer_to(error, self.metrics, method="ScoreStream")
            answer.error.CopyFrom(pb.StreamError(code=code.value[0], message=text))
        return answer

    async def _score(self, request: pb.ScoreRequest) -> pb.ScoreResponse:
        traffic = _traffic(request.options)
        monitor = self.registry.resolve(request.baseline, model=request.model)
        inputs = self._inputs(request, monitor)
        judgement = await self.batcher.judge(monitor, inputs)
        now = self.clock()
        self.metrics.scored(monitor.baseline.manifest.name, traffic, judgement.verdicts)
        ids: Mapping[int, str] = {}
        if traffic == "live" and not request.options.dry_run:
            self.watch.feed(monitor.baseline.revision, judgement.verdicts)
            alerts = drafts(monitor, judgement, inputs, request_id=request.request_id, time=now)
            ids = dict(zip(alerts, await self.alerts.write(list(alerts.values())), strict=True))
        return pb.ScoreResponse(
            request_id=request.request_id,
            model=monitor.baseline.manifest.model_name,
            baseline_revision=monitor.baseline.revision,
            scores=(
                pb.Score(verdict=convert.verdict(verdict), alert_id=ids.get(row, ""))
                for row, verdict in enumerate(judgement.verdicts)
            ),
            outputs=convert.tensors(judgement.outputs) if request.options.include_outputs else (),
            score_time=convert.timestamp(now),
        )

    def _inputs(self, request: pb.ScoreRequest, monitor: Monitor) -> Inputs:
        inputs = convert.inputs(request.inputs)
        if (size := max(map(len, inputs.values()))) > self.max_request_inputs:
            raise TooLargeError(
                f"the request has {size} inputs; this server takes at most "
                f"{self.max_request_inputs} a request: split it"
            )
        monitor.check(inputs)
        return inputs

    @contextmanager
    def _in_flight(self, caller_id: str) -> Iterator[None]:
        _check_request_id(caller_id)
        request_id.set(caller_id or uuid.uuid4().hex)
        self.metrics.request_started()
        try:
            yield
        finally:
            self.metrics.request_ended()


def _check_request_id(caller_id: str) -> None:
    if len(caller_id) > MAX_REQUEST_ID or not caller_id.isprintable():
        raise InputError(
            f"request_id {caller_id[:MAX_REQUEST_ID]!r} has {len(caller_id)} characters; send at "
            f"most {MAX_REQUEST_ID}, all printable"
        )


def _traffic(options: pb.ScoreOptions) -> Traffic:
    traffic = _TRAFFIC.get(options.traffic)
    if traffic is None:
        raise InputError(f"traffic is {options.traffic}; use one of {pb.Traffic.keys()}")
    return traffic
