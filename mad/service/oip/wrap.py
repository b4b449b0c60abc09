"""Run the model here: its own outputs and the scores, from one forward pass."""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import final

from mad.errors import InputError
from mad.service.answering import Answering, Question
from mad.service.calls import Context
from mad.service.oip import inference_pb2 as pb, scores, tensors
from mad.service.oip.heads import Heads
from mad.service.oip.model import ServedName, Signature
from mad.service.oip.request import Options, check_plain, options
from mad.service.raw import shown


@final
@dataclass(frozen=True)
class Wrap:
    """Answers with what the model computes here."""

    name: ServedName
    answering: Answering
    signature: Signature

    @cached_property
    def _heads(self) -> Heads:
        return Heads(self.name.model, self.name.version)

    async def infer(self, request: pb.ModelInferRequest, context: Context) -> bytes:
        """Run the model; InputError for inputs and outputs that it does not have."""
        asked = options(request)
        check_plain(request)
        if asked.outputs:
            _check_known(asked.outputs, await self.signature.outputs())
        wanted = scores.wanted(asked.outputs)
        question = ask(self.answering, request, asked)
        answer = await self.answering.answer(question)
        own = tensors.carried(answer.judgement.outputs)
        outputs = []
        for name in asked.outputs or (*own, *wanted):
            if name in wanted:
                outputs.append(scores.written(name, answer.judgement.verdicts))
            elif name in own:
                outputs.append(tensors.written(name, own[name]))
            else:
                raise InputError(f"the model did not return {shown(name)} for this input")
        found = scores.parameters(question.monitor.baseline.revision, answer)
        return self._heads.response(request.id, outputs, found)

    async def metadata(self, context: Context) -> pb.ModelMetadataResponse:
        """Describe the model."""
        return await self.signature.metadata(self.name)


def ask(answering: Answering, request: pb.ModelInferRequest, asked: Options) -> Question:
    """Return the question that a request puts to the model here; raises as ``tensors.inputs``."""
    return Question(
        monitor=answering.registry.resolve(asked.baseline),
        payload=tensors.inputs(request),
        request_id=request.id,
        traffic=asked.traffic,
        is_dry_run=asked.is_dry_run,
    )


def _check_known(names: Iterable[str], outputs: Container[str]) -> None:
    for name in names:
        if name not in outputs and name not in scores.NAMES:
            raise InputError(
                f"the model has no output {shown(name)}; its metadata lists those it has"
            )
