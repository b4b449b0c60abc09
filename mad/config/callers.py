"""What one caller may have of a server whose callers say who they are."""

from typing import Annotated, final

from pydantic import Field

from mad.config.fields import Count, Section


@final
class Callers(Section):
    """Limits of each caller; they do not bind callers whom nobody asked who they are."""

    requests: Count = 1024
    streams: Count = 128
    inputs_per_second: Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)] = 0.0
