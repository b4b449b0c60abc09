"""Every error this package raises on purpose.

MadError
├── ConfigError               the operator must change a setting or a file it names
├── BaselineError             a bundle is damaged, or was made for another model
│   ├── BaselineNotFoundError no baseline has the requested name or version
│   └── GateError             a version does not pass what promotion asks of it
├── NotFoundError             no alert, incident or job has the requested id
├── ConflictError             what a change was to start from is not what is there now
├── InputError                the caller must change the request
│   ├── TooLargeError         the request exceeds a limit of this server
│   └── UnreadableError       the request's bytes are not the message the method takes
├── UnauthenticatedError      the caller does not say who it is, or not truly
├── ForbiddenError            the caller may not do this
├── OverloadedError           the server cannot take more work now; retry later
├── ExpiredError              the caller's deadline would pass before its answer
├── ShuttingDownError         the server drains; another replica should answer
├── UpstreamError             the server that runs the model does not answer
├── AlertLogError             the alert log cannot be read or written
└── AuditError                the audit log cannot be read or written, or was edited

Messages carry the offending value and the remedy; they are shown to people.
"""

from typing import Final, Literal, TypeAlias

Shed: TypeAlias = Literal["queue_full", "deadline", "rate_limit"]
"""Why a server takes no more: its queue is full, an answer would come after the caller's deadline,
or this caller has its share."""


class MadError(Exception):
    """Base of every deliberate error."""


class ConfigError(MadError):
    """A setting, or a file it names, cannot be used."""


class BaselineError(MadError):
    """A baseline bundle cannot be used."""


class BaselineNotFoundError(BaselineError):
    """No baseline has the requested name or version."""


class GateError(BaselineError):
    """A version does not pass what promotion asks of it."""


class NotFoundError(MadError):
    """No alert, incident or job has the requested id."""


class ConflictError(MadError):
    """What a change was to start from is not what is there now."""


class InputError(MadError):
    """A request cannot be scored as it stands; ``field`` is the path of what is wrong, if known."""

    def __init__(self, message: str = "", *, field: str = "") -> None:
        super().__init__(message)
        self.field: Final = field


class TooLargeError(InputError):
    """A request exceeds a limit of this server."""


class UnreadableError(InputError):
    """A request's bytes are not the message its method takes."""


class UnauthenticatedError(MadError):
    """The caller does not say who it is, or not truly."""


class ForbiddenError(MadError):
    """The caller may not do this."""


class OverloadedError(MadError):
    """The server cannot take more work now; ``retry_after_s`` is advised."""

    def __init__(
        self, message: str = "", *, reason: Shed = "queue_full", retry_after_s: float = 0.0
    ) -> None:
        super().__init__(message)
        self.reason: Final = reason
        self.retry_after_s: Final = retry_after_s


class ExpiredError(MadError):
    """The caller's deadline would pass before its answer."""


class UpstreamError(MadError):
    """The server that runs the model does not answer."""


class ShuttingDownError(MadError):
    """The server is draining and takes no new work."""


class AlertLogError(MadError):
    """The alert log cannot be read or written."""


class AuditError(MadError):
    """The audit log cannot be read or written, or was edited."""


class AlertRefusedError(AlertLogError):
    """The alert log takes no alert that holds this."""
