"""An HTTP server on a thread of its own, so that scrapes and scores do not wait for each other."""

import socket
import ssl
import threading
from typing import Final, final

import uvicorn
from starlette.types import ASGIApp

from mad.errors import ConfigError

_STOP_S: Final = 5.0
_LAST_PORT: Final = 65535


@final
class HttpServer:
    """Serves one application on one address, or in the clear; start it once, stop it once."""

    def __init__(
        self, application: ASGIApp, *, host: str, port: int, tls: ssl.SSLContext | None = None
    ) -> None:
        self._host = host
        self._port = port
        self._server = uvicorn.Server(
            uvicorn.Config(
                application,
                log_config=None,
                access_log=False,
                lifespan="auto",
                ws="none",
                server_header=False,
                limit_concurrency=64,
                timeout_graceful_shutdown=1,
            )
        )
        config = self._server.config
        config.load()
        config.ssl = tls
        self._thread: threading.Thread | None = None

    def start(self) -> int:
        """Listen, and return the port: the one asked for, or a free one if that was 0.

        Raises ConfigError if the address cannot be listened on.
        """
        listener = _listen(self._host, self._port)
        port: int = listener.getsockname()[1]
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="http", daemon=True
        )
        self._thread.start()
        return port

    def stop(self) -> None:
        """Answer what is under way, stop listening, and wait for the thread to end."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(_STOP_S)


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= _LAST_PORT:
        raise ConfigError(f"cannot serve HTTP on port {port}; use 1 to {_LAST_PORT}, or 0")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"cannot serve HTTP on {host}:{port}: {error.strerror}; free that address, or set "
            "another http_address (port 0 takes a free one)"
        ) from error
