"""Log lines for people and collectors: one event a line on the error stream, values as fields."""

import json
import logging
import sys
from collections.abc import Callable
from typing import final

_STANDARD = logging.makeLogRecord({}).__dict__.keys() | {"message", "asctime"}


@final
class _Line(logging.Formatter):
    """Time, level, room, event, then its fields; a traceback is one more field."""

    def __init__(self, request_id: Callable[[], str]) -> None:
        super().__init__()
        self._request_id = request_id

    def format(self, record: logging.LogRecord) -> str:
        """Write one record as one line."""
        fields = {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
        if self._request_id():
            fields["request_id"] = self._request_id()
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        event = record.getMessage().replace("\n", " ")
        pairs = (f"{key}={json.dumps(value, default=str)}" for key, value in fields.items())
        return " ".join((self.formatTime(record), record.levelname, record.name, event, *pairs))


def configure(*, request_id: Callable[[], str]) -> None:
    """Send our events, and others' warnings, to the error stream.

    ``request_id`` says which request is being answered, empty when none is.
    """
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(_Line(request_id))
    logging.basicConfig(level=logging.WARNING, handlers=[stream], force=True)
    logging.getLogger("mad").setLevel(logging.INFO)
