"""How long alerts are kept, and when an incident is over."""

from typing import Annotated, final

from pydantic import Field

from mad.config.fields import Positive, Section


@final
class Alerts(Section):
    """What the alert log keeps; 0 keeps all."""

    retention_days: Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)] = 0.0
    max_alerts: Annotated[int, Field(ge=0, strict=True)] = 0
    incident_quiet_seconds: Positive = 3600.0
