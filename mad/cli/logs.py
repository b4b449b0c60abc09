"""Log lines for collectors and people: one event a line on the error stream, values as fields.

Whatever a name, an id or a message holds, a line stays one line and drives no terminal.
"""

import json
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias, final

from mad.audit import plain

Format: TypeAlias = Literal["auto", "json", "text"]
"""``auto`` is text on a terminal and JSON elsewhere."""

_STANDARD = logging.makeLogRecord({}).__dict__.keys() | {"message", "asctime"}


@final
@dataclass(frozen=True)
class Asked:
    """What a line is about: the request being answered, and who asked; empty when nobody did."""

    request_id: Callable[[], str]
    principal: Callable[[], str]


def configure(asked: Asked, *, written: Format = "auto") -> None:
    """Send our events, and others' warnings, to the error stream."""
    is_text = written == "text" or (written == "auto" and sys.stderr.isatty())
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(_Text(asked) if is_text else _Json(asked))
    logging.basicConfig(level=logging.WARNING, handlers=[stream], force=True)
    logging.getLogger("mad").setLevel(logging.INFO)
    # Else they would be on the same stream in a format of their own.
    logging.captureWarnings(capture=True)


@final
class _Json(logging.Formatter):
    """One JSON object: time, level, logger, event, and what else there is."""

    def __init__(self, asked: Asked) -> None:
        super().__init__()
        self._asked = asked

    def format(self, record: logging.LogRecord) -> str:
        """Write one record as one line of ASCII."""
        return json.dumps(_told(self, record, self._asked), allow_nan=False)


@final
class _Text(logging.Formatter):
    """Time, level, room and event, then names and values."""

    def __init__(self, asked: Asked) -> None:
        super().__init__()
        self._asked = asked

    def format(self, record: logging.LogRecord) -> str:
        """Write one record as one line that a person can read."""
        told = _told(self, record, self._asked)
        head = [_printable(str(told.pop(key))) for key in ("time", "level", "logger", "event")]
        pairs = told.pop("fields", {}) | told
        return " ".join([*head, *(f"{key}={json.dumps(value)}" for key, value in pairs.items())])


def _told(formatter: logging.Formatter, record: logging.LogRecord, asked: Asked) -> dict[str, Any]:
    fields = {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
    # A thread that serves many requests names the one it speaks of.
    named = {key: fields.pop(key, "") for key in ("request_id", "principal")}
    told: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6]
        + "Z",
        "level": record.levelname,
        "logger": record.name,
        "event": record.getMessage(),
    }
    for key, known in (("request_id", asked.request_id), ("principal", asked.principal)):
        if value := named[key] or known():
            told[key] = str(value)
    if fields:
        told["fields"] = {key: plain(value) for key, value in fields.items()}
    if record.exc_info:
        told["traceback"] = formatter.formatException(record.exc_info)
    return told


def _printable(text: str) -> str:
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )
