"""A webhook: what Alertmanager posts comes in, notifications come out."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, final

_MOST_BYTES: Final = 1024 * 1024


@final
@dataclass(frozen=True)
class Notification:
    """One alert of one message; ``route`` is the receiver that it came by, such as ``page``."""

    route: str
    status: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    began: str
    received: datetime

    @property
    def name(self) -> str:
        """The name of the alert."""
        return self.labels["alertname"]


@final
@dataclass(eq=False)
class Inbox:
    """What has come so far; any thread may look. ``url`` with a receiver's name is posted to."""

    told: Callable[[Notification], None]
    url: str = ""
    _come: list[Notification] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def notifications(self) -> tuple[Notification, ...]:
        """All notifications, in the order they came."""
        with self._changed:
            return tuple(self._come)

    def wait_for(self, name: str, *, timeout_s: float) -> Notification | None:
        """Return the first notification of an alert, once it is here; None if it does not come."""
        with self._changed:
            self._changed.wait_for(lambda: self._first(name) is not None, timeout_s)
            return self._first(name)

    def take(self, notification: Notification) -> None:
        """Put one in."""
        with self._changed:
            self._come.append(notification)
            self._changed.notify_all()
        self.told(notification)

    def _first(self, name: str) -> Notification | None:
        return next((one for one in self._come if one.name == name), None)


@contextmanager
def receiving(told: Callable[[Notification], None]) -> Iterator[Inbox]:
    """Listen on a free port of this machine until the block ends; ``told`` hears of each."""
    inbox = Inbox(told)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, inbox))
    server.daemon_threads = True
    inbox.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, name="webhook", daemon=True)
    thread.start()
    try:
        yield inbox
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@final
class _Handler(BaseHTTPRequestHandler):
    """Takes one message."""

    def __init__(self, inbox: Inbox, *connection: Any) -> None:  # noqa: ANN401  # the library's
        self._inbox = inbox
        super().__init__(*connection)

    def do_POST(self) -> None:
        """Take the alerts of a message in."""
        size = int(self.headers.get("Content-Length", 0))
        if size > _MOST_BYTES:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        message: dict[str, Any] = json.loads(self.rfile.read(size))
        now = datetime.now(UTC)
        for alert in message["alerts"]:
            self._inbox.take(
                Notification(
                    self.path.strip("/"),
                    alert["status"],
                    alert["labels"],
                    alert["annotations"],
                    alert["startsAt"],
                    now,
                )
            )
        self.send_response(HTTPStatus.OK)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing: notifications are told of once."""
