"""What the modes of a server have in common: each answers for one model, in its own way."""

from typing import Protocol

from mad.service.calls import Context
from mad.service.oip import inference_pb2 as pb
from mad.service.oip.forms import Request
from mad.service.oip.model import ServedName


class Mode(Protocol):
    """A way to answer inferences. What it raises is ours, or what an upstream server answered."""

    @property
    def name(self) -> ServedName:
        """What callers call the model."""
        ...

    async def infer(self, request: Request, context: Context) -> bytes:
        """Answer a request for this model with an encoded ModelInferResponse."""
        ...

    async def metadata(self, context: Context) -> pb.ModelMetadataResponse:
        """Describe the model, without the scores."""
        ...
