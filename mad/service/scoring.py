"""The scoring servicer: requests in; scores, durable alerts and explanations out."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, final

from mad.counterfactual import Counterfactual
from mad.errors import InputError
from mad.metrics import Traffic
from mad.service import convert, convert_payloads
from mad.service.answering import Answer, Answering, Question
from mad.service.caller import caller
from mad.service.calls import Context, check_size
from mad.service.errors import answer_to
from mad.service.streaming import answered, check_open
from mad.v1 import scoring_pb2 as pb, scoring_pb2_grpc as rpc

MAX_CHARGES: Final = 1024
DEFAULT_CHARGES: Final = 20

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

    answering: Answering
    max_message_bytes: int
    stream_requests: int
    draining: asyncio.Event

    async def Score(self, request: pb.ScoreRequest, context: Context) -> pb.ScoreResponse:
        """Return one score for each input, in order."""
        return await self._counted(request)

    def ScoreStream(
        self, request_iterator: AsyncIterator[pb.ScoreStreamRequest], context: Context
    ) -> AsyncIterator[pb.ScoreStreamResponse]:
        """Answer each request as it comes; one that fails gets its error and ends nothing."""
        return answered(
            request_iterator,
            self._stream_answers,
            at_once=self.stream_requests,
            draining=self.draining,
        )

    async def Explain(self, request: pb.ExplainRequest, context: Context) -> pb.ExplainResponse:
        """Split the surprise of one input; raises no alert."""
        if not 0 <= request.max_charges <= MAX_CHARGES:
            raise InputError(
                f"max_charges is {request.max_charges}; ask for 0 to {MAX_CHARGES}",
                field="max_charges",
            )
        self.answering.begin("")
        try:
            monitor = self.answering.registry.resolve(request.baseline, model=request.model)
            inputs = convert.inputs(request.inputs)
            monitor.check(inputs)
            if (size := max(map(len, inputs.values()))) != 1:
                raise InputError(f"the batch size is {size}; explain one input at a time")
            verdict, explanation = await self.answering.batcher.explain(
                monitor, inputs, max_charges=request.max_charges or DEFAULT_CHARGES
            )
            manifest = monitor.baseline.manifest
            self.answering.probing.saw(caller.get().name, manifest, [verdict])
            without: tuple[Counterfactual, ...] = ()
            if request.include_counterfactuals:
                find = partial(monitor.counterfactuals, inputs, explanation)
                without = await self.answering.batcher.call(find, kind="counterfactuals")
        finally:
            self.answering.end()
        return pb.ExplainResponse(
            verdict=convert.verdict(verdict),
            explanation=convert.explanation(explanation),
            baseline_revision=monitor.baseline.revision,
            counterfactuals=map(convert.counterfactual, without),
        )

    async def _stream_answers(
        self, messages: Sequence[pb.ScoreStreamRequest]
    ) -> Sequence[pb.ScoreStreamResponse]:
        (message,) = messages
        request = message.request
        answer = pb.ScoreStreamResponse(request_id=request.request_id)
        try:
            check_open(self.draining)
            answer.response.CopyFrom(await self._counted(request))
            check_size(answer.ByteSize(), self.max_message_bytes)
        except Exception as error:  # noqa: BLE001  # answer_to logs what is not ours
            code, text = answer_to(error, self.answering.metrics, method="ScoreStream")
            answer.error.CopyFrom(pb.StreamError(code=code.value[0], message=text))
        return [answer]

    async def _counted(self, request: pb.ScoreRequest) -> pb.ScoreResponse:
        self.answering.begin(request.request_id)
        try:
            return await self._score(request)
        finally:
            self.answering.end()

    async def _score(self, request: pb.ScoreRequest) -> pb.ScoreResponse:
        traffic = _traffic(request.options)
        monitor = self.answering.registry.resolve(request.baseline, model=request.model)
        answer = await self.answering.answer(
            Question(
                monitor=monitor,
                payload=convert_payloads.payload(request),
                request_id=request.request_id,
                traffic=traffic,
                is_dry_run=request.options.dry_run,
            )
        )
        judgement = answer.judgement
        return pb.ScoreResponse(
            request_id=request.request_id,
            model=monitor.baseline.manifest.model_name,
            baseline_revision=monitor.baseline.revision,
            scores=_scores(answer, explained=request.options.include_explanations),
            outputs=convert.tensors(judgement.outputs) if request.options.include_outputs else (),
            score_time=convert.timestamp(answer.time),
        )


def _scores(answer: Answer, *, explained: bool) -> Iterator[pb.Score]:
    explanations = answer.judgement.explanations if explained else {}
    for row, verdict in enumerate(answer.judgement.verdicts):
        yield pb.Score(
            verdict=convert.verdict(verdict),
            alert_id=answer.alert_ids.get(row, ""),
            measure=convert.MEASURES[answer.measure],
            explanation=convert.explanation(explanations[row]) if row in explanations else None,
        )


def _traffic(options: pb.ScoreOptions) -> Traffic:
    traffic = _TRAFFIC.get(options.traffic)
    if traffic is None:
        raise InputError(
            f"traffic is {options.traffic}; use one of {pb.Traffic.keys()}", field="options.traffic"
        )
    return traffic
