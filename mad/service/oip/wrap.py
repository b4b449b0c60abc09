"""Run the model here: its own outputs and the scores, from one forward pass."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

from torch import Tensor

from mad.errors import InputError
from mad.service.answering import Answering, Question
from mad.service.calls import Context
from mad.service.oip import inference_pb2 as pb, scores, tensors
from mad.service.oip.forms import Repeated, Request, joined
from mad.service.oip.heads import Columns, Heads, Output, Part
from mad.service.oip.model import ServedName, Signature
from mad.service.oip.request import Options, check_plain, options
from mad.service.raw import shown
from mad.types import Verdict


@final
@dataclass(frozen=True)
class Wrap:
    """Answers with what the model computes here."""

    name: ServedName
    answering: Answering
    signature: Signature

    @cached_property
    def _heads(self) -> Heads:
        return Heads(self.name.model, self.name.version, scores.KINDS)

    async def infer(self, request: Request, context: Context) -> bytes:
        """Run the model; InputError for inputs and outputs that it does not have."""
        if isinstance(request, Repeated):
            asked: tuple[str, ...] = ()
            question = repeated(self.answering, request)
        else:
            own = options(request)
            check_plain(request)
            asked = own.outputs
            if asked:
                _check_known(asked, await self.signature.outputs())
                scores.wanted(asked)
            question = ask(self.answering, request, own)
        answer = await self.answering.answer(question)
        verdicts = answer.judgement.verdicts
        outputs = tensors.carried(answer.judgement.outputs)
        revision = question.monitor.baseline.revision
        found = scores.parameters(revision, verdicts, answer.alert_ids.values())
        if asked:
            chosen = [_chosen(name, outputs, verdicts) for name in asked]
            return self._heads.response(request.id, chosen, found)
        written = [tensors.written(name, output) for name, output in outputs.items()]
        return self._heads.response(request.id, written, found, columns=_columns(verdicts))

    async def infer_together(self, requests: Sequence[Repeated]) -> Sequence[bytes]:
        """Answer requests for this model that are alike by one run of it; raises as ``infer``."""
        inputs = joined(requests)
        sizes = [request.form.shape[0] for request in requests]
        ids = tuple((request.id, size) for request, size in zip(requests, sizes, strict=True))
        question = Question(self.answering.registry.default, inputs, together=ids)
        answer = await self.answering.answer(question)
        written = [
            tensors.written(name, output)
            for name, output in tensors.carried(answer.judgement.outputs).items()
        ]
        revision = question.monitor.baseline.revision
        may_read = scores.may_read()
        parts, start = [], 0
        for request_id, size in ids:
            encoded = b""
            if may_read:
                verdicts = answer.judgement.verdicts[start : start + size]
                raised = _ids(answer.alert_ids, range(start, start + size))
                encoded = scores.all_raw(verdicts) + scores.found(revision, verdicts, raised)
            parts.append(Part(request_id, size, encoded))
            start += size
        return self._heads.responses(parts, written, has_columns=may_read)

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


def repeated(answering: Answering, request: Repeated) -> Question:
    """Return the question that a request without parameters puts to the model here."""
    return Question(answering.registry.default, request.inputs(), request.id)


def _columns(verdicts: tuple[Verdict, ...]) -> Columns:
    return Columns(len(verdicts), scores.all_raw(verdicts)) if scores.may_read() else Columns()


def _ids(ids: Mapping[int, str], rows: range) -> Sequence[str]:
    return [ids[row] for row in rows if row in ids] if ids else ()


def _chosen(name: str, outputs: Mapping[str, Tensor], verdicts: tuple[Verdict, ...]) -> Output:
    if name in scores.NAMES:
        return scores.written(name, verdicts)
    if name not in outputs:
        raise InputError(f"the model did not return {shown(name)} for this input")
    return tensors.written(name, outputs[name])


def _check_known(names: Iterable[str], outputs: Container[str]) -> None:
    for name in names:
        if name not in outputs and name not in scores.NAMES:
            raise InputError(
                f"the model has no output {shown(name)}; its metadata lists those it has"
            )
