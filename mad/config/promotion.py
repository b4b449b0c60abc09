"""What a candidate is held against before it becomes active, and how servers hear of it."""

from typing import Annotated, final

from pydantic import Field

from mad.config.fields import File, Positive, Section


@final
class Promotion(Section):
    """Inputs kept for the gates alone, their bounds, and how often a server looks at the store."""

    trusted: tuple[File, ...] = ()
    canaries: tuple[File, ...] = ()
    max_canary_loss: Annotated[float, Field(ge=0, le=1, strict=True)] = 0.01
    max_drift_bits: Positive = 0.25
    max_quarantine_factor: Annotated[float, Field(ge=1, strict=True, allow_inf_nan=False)] = 3.0
    poll_seconds: Positive = 2.0
