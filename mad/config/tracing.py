"""Settings of where traces go."""

from typing import Annotated, final

from pydantic import Field

from mad.config.fields import Section


@final
class Tracing(Section):
    """Spans of calls and their stages, for an OpenTelemetry collector; none without one."""

    endpoint: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = None
