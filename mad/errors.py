"""Every error this package raises on purpose.

MadError
├── ConfigError               the operator must change a setting or a file it names
├── BaselineError             a bundle is damaged, or was made for another model
│   └── BaselineNotFoundError no baseline has the requested name or version
├── InputError                the caller must change the request
│   ├── TooLargeError         the request exceeds a limit of this server
│   └── UnreadableError       the request's bytes are not the message the method takes
├── OverloadedError           the server cannot take more work now; retry later
├── ShuttingDownError         the server drains; another replica should answer
└── AlertLogError             the alert log cannot be read or written

Messages carry the offending value and the remedy; they are shown to people.
"""


class MadError(Exception):
    """Base of every deliberate error."""


class ConfigError(MadError):
    """A setting, or a file it names, cannot be used."""


class BaselineError(MadError):
    """A baseline bundle cannot be used."""


class BaselineNotFoundError(BaselineError):
    """No baseline has the requested name or version."""


class InputError(MadError):
    """A request cannot be scored as it stands."""


class TooLargeError(InputError):
    """A request exceeds a limit of this server."""


class UnreadableError(InputError):
    """A request's bytes are not the message its method takes."""


class OverloadedError(MadError):
    """The server cannot take more work now."""


class ShuttingDownError(MadError):
    """The server is draining and takes no new work."""


class AlertLogError(MadError):
    """The alert log cannot be read or written."""
