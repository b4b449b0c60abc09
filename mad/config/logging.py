"""Settings of what the server says of itself, line by line."""

from typing import Literal, final

from mad.config.fields import Section


@final
class Logging(Section):
    """How events are written on the error stream."""

    format: Literal["auto", "json", "text"] = "auto"
