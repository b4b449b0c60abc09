"""Pass inferences on to the server that runs the model, and add scores to what it answers.

Fail open: what that server answers goes out as it is, scores or none. That there are none is
counted, and never a reason to keep an answer back.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, final

from torch import Tensor

from mad.errors import ForbiddenError, InputError
from mad.metrics import Unscored
from mad.payloads import ActivationBatch
from mad.service.answering import Answer, Answering, Question
from mad.service.calls import Context
from mad.service.oip import inference_pb2 as pb, passing, scores, tensors
from mad.service.oip.forms import Request, parsed
from mad.service.oip.model import ServedName, Signature
from mad.service.oip.request import Options, options
from mad.service.oip.unscored import inputs_in, reason_of
from mad.service.oip.upstream import Upstream, UpstreamPlan
from mad.service.oip.wrap import ask
from mad.service.raw import shown

_MARGIN_S: Final = 0.02
"""What is left of a caller's deadline when its answer goes out at the latest, scores or none."""


@final
@dataclass(frozen=True)
class Proxy:
    """Answers with what an upstream server computes."""

    name: ServedName
    answering: Answering
    signature: Signature
    upstream: Upstream
    plan: UpstreamPlan
    max_message_bytes: int
    _late: set[asyncio.Task[Answer]] = field(default_factory=set)
    """Scores that nobody waits for any more; they count and raise alerts like any others."""

    async def infer(self, request: Request, context: Context) -> bytes:
        """Return the upstream server's answer with scores, or raise its error.

        Raises InputError, BaselineNotFoundError or ForbiddenError for what a request asks of us
        and cannot have.
        """
        request = parsed(request)
        asked = options(request)
        wanted = scores.wanted(asked.outputs)
        revision = self.answering.registry.resolve(asked.baseline).baseline.revision
        extra = passing.rewrite(request, asked, self.plan, defaults=self.upstream.default_outputs)
        here = (
            None if self.plan.activations else self._begin(lambda: self._of_inputs(request, asked))
        )
        try:
            response = await self.upstream.infer(request, context)
            scoring = here or self._begin(lambda: self._of_answer(response, request, asked))
            found = await self._in_time(scoring, context)
        except BaseException:
            if here is not None:
                here.cancel()
            raise
        is_raw = passing.hide(response, extra)
        if isinstance(found, Answer):
            scored = pb.ModelInferResponse()
            verdicts = found.judgement.verdicts
            for name in wanted:
                scores.add_output(scored, name, verdicts, raw=is_raw)
            alert_ids = found.alert_ids.values()
            scored.MergeFromString(scores.parameters(revision, verdicts, alert_ids))
            if response.ByteSize() + scored.ByteSize() <= self.max_message_bytes:
                response.MergeFrom(scored)
                return response.SerializeToString()
            found = "refused"
        self.answering.metrics.unscored(inputs_in(request), found)
        scores.add_reason(response, found)
        return response.SerializeToString()

    async def metadata(self, context: Context) -> pb.ModelMetadataResponse:
        """Return what the upstream server says of the model, but for scores of its own."""
        described = await self.upstream.metadata(context)
        for index in reversed(range(len(described.outputs))):
            if described.outputs[index].name in scores.NAMES:
                del described.outputs[index]
        return described

    async def close(self) -> None:
        """Wait for scores that are late."""
        await asyncio.gather(*self._late, return_exceptions=True)

    def _begin(self, question: Callable[[], Awaitable[Question]]) -> asyncio.Task[Answer]:
        async def score() -> Answer:
            return await self.answering.answer(await question())

        return asyncio.create_task(score())

    async def _of_inputs(self, request: pb.ModelInferRequest, asked: Options) -> Question:
        return ask(self.answering, request, asked)

    async def _of_answer(
        self, response: pb.ModelInferResponse, request: pb.ModelInferRequest, asked: Options
    ) -> Question:
        """Ask about the activations in an answer; InputError where they are not there."""
        monitor = self.answering.registry.resolve(asked.baseline)
        first = next(iter(await self.signature.outputs()), "")
        batch = ActivationBatch(
            activations={
                site: _output(response, name) for site, name in self.plan.activations.items()
            },
            outputs={first: _output(response, self.plan.outputs[0])} if self.plan.outputs else {},
            model_fingerprint=monitor.baseline.manifest.model_fingerprint,
        )
        return Question(
            monitor=monitor,
            payload=batch,
            request_id=request.id,
            traffic=asked.traffic,
            is_dry_run=asked.is_dry_run,
        )

    async def _in_time(self, scoring: asyncio.Task[Answer], context: Context) -> Answer | Unscored:
        """Wait as long as an answer may wait for its scores; say why there are none."""
        left_s: float | None = context.time_remaining()
        patience_s = self.plan.patience_s
        if left_s is not None:
            patience_s = min(patience_s, max(left_s - _MARGIN_S, 0))
        await asyncio.wait([scoring], timeout=patience_s)
        if not scoring.done():
            self._late.add(scoring)
            scoring.add_done_callback(self._came_late)
            return "late"
        try:
            return scoring.result()
        except ForbiddenError:
            raise
        except Exception as error:  # noqa: BLE001  # reason_of logs what is not ours
            return reason_of(error, self.answering.metrics, method="ModelInfer")

    def _came_late(self, scoring: asyncio.Task[Answer]) -> None:
        self._late.discard(scoring)
        error = None if scoring.cancelled() else scoring.exception()
        if isinstance(error, Exception):
            reason_of(error, self.answering.metrics, method="ModelInfer")


def _output(response: pb.ModelInferResponse, name: str) -> Tensor:
    for index, output in enumerate(response.outputs):
        if output.name == name:
            return tensors.output(response, index)
    raise InputError(f"the upstream server's answer has no output {shown(name)}")
