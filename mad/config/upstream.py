"""Settings of the server that runs the model, where this one does not."""

from collections.abc import Mapping
from typing import Annotated, Self, final

from pydantic import Field, model_validator

from mad.config.fields import File, Listen, Positive, Seconds, Section


@final
class Upstream(Section):
    """Where that server is, what it calls the model, and which of its outputs are what."""

    address: Listen | None = None
    model: str = ""
    version: str = ""
    outputs: tuple[str, ...] = ()
    activations: Mapping[str, str] = {}
    timeout_seconds: Positive = 10.0
    patience_seconds: Seconds = 0.25
    tls: Annotated[bool, Field(strict=True)] = False
    ca: File | None = None

    @model_validator(mode="after")
    def _what_belongs_together_is_given(self) -> Self:
        if self.ca is not None and not self.tls:
            raise ValueError("ca needs tls = true")
        return self
