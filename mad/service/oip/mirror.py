"""Score what a proxy copies to us; its caller is answered by another server, and never waits."""

from dataclasses import dataclass
from typing import final

from mad.errors import ExpiredError, OverloadedError, ShuttingDownError
from mad.service.answering import Answering
from mad.service.calls import Context
from mad.service.oip import inference_pb2 as pb
from mad.service.oip.forms import Request, parsed
from mad.service.oip.model import ServedName, Signature
from mad.service.oip.request import options
from mad.service.oip.unscored import inputs_in, reason_of
from mad.service.oip.wrap import ask


@final
@dataclass(frozen=True)
class Mirror:
    """Answers with nothing. What it cannot take on is counted: nobody is there to come back."""

    name: ServedName
    answering: Answering
    signature: Signature

    async def infer(self, request: Request, context: Context) -> bytes:
        """Score the inputs; InputError for those that the model does not take."""
        whole = parsed(request)
        question = ask(self.answering, whole, options(whole))
        try:
            await self.answering.answer(question)
        except (OverloadedError, ExpiredError, ShuttingDownError) as error:
            reason = reason_of(error, self.answering.metrics, method="ModelInfer")
            self.answering.metrics.unscored(inputs_in(whole), reason)
        return b""

    async def metadata(self, context: Context) -> pb.ModelMetadataResponse:
        """Describe the model."""
        return await self.signature.metadata(self.name)
