"""Channels that say who calls: a token in the metadata of each call, TLS by credentials."""

import ipaddress
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias, cast, final

import grpc

from mad.errors import ConfigError

Options: TypeAlias = Sequence[tuple[str, Any]]
_Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]
_SCHEME: Final = re.compile(r"^(?:(?:dns:(?://[^/]*/)?)|(?:ipv4:)|(?:ipv6:))")
_LOCAL: Final = ("unix:", "unix-abstract:")


def open_channel(
    target: str, options: Options, *, token: str, credentials: grpc.ChannelCredentials | None
) -> grpc.Channel:
    """Return a channel to be used and closed by threads.

    ``token`` may be empty, ``credentials`` None for a channel in the clear. Raises ConfigError for
    a token that would travel in the clear to another machine.
    """
    if credentials is not None:
        return grpc.secure_channel(target, _composed(credentials, token), options)
    if not token:
        return grpc.insecure_channel(target, options)
    _check_is_local(target)
    return cast("grpc.Channel", _Bearing(grpc.insecure_channel(target, options), token))


def open_aio_channel(
    target: str, options: Options, *, token: str, credentials: grpc.ChannelCredentials | None
) -> grpc.aio.Channel:
    """Return the same for a running event loop."""
    if credentials is not None:
        return grpc.aio.secure_channel(target, _composed(credentials, token), options)
    if not token:
        return grpc.aio.insecure_channel(target, options)
    _check_is_local(target)
    return cast("grpc.aio.Channel", _Bearing(grpc.aio.insecure_channel(target, options), token))


def _composed(credentials: grpc.ChannelCredentials, token: str) -> grpc.ChannelCredentials:
    if not token:
        return credentials
    return grpc.composite_channel_credentials(
        credentials, grpc.access_token_call_credentials(token)
    )


def _check_is_local(target: str) -> None:
    if target.startswith(_LOCAL):
        return
    for address in _SCHEME.sub("", target).split(","):
        host = address.rpartition(":")[0].strip("[]") or address
        if not _is_loopback(host):
            raise ConfigError(
                f"the token would travel in the clear to {host}; give credentials, such as "
                "grpc.ssl_channel_credentials(), or a channel made elsewhere if the network is "
                "trusted"
            )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@final
class _Bearing:
    """A channel, sync or aio, each of whose calls carries a token: as much of one as stubs use.

    gRPC's own means, call credentials, ask for TLS; interceptors of aio would change what a stream
    of requests can do.
    """

    def __init__(self, channel: grpc.Channel | grpc.aio.Channel, token: str) -> None:
        own = (("authorization", f"Bearer {token}"),)
        self.close = channel.close
        self.unary_unary = partial(_Method, channel.unary_unary, own)
        self.unary_stream = partial(_Method, channel.unary_stream, own)
        self.stream_unary = partial(_Method, channel.stream_unary, own)
        self.stream_stream = partial(_Method, channel.stream_stream, own)


@final
class _Method:
    """One method of a stub."""

    def __init__(
        self, make: Callable[..., Any], own: _Metadata, *arguments: object, **options: object
    ) -> None:
        self._method = make(*arguments, **options)
        self._own = own

    def __call__(
        self, *arguments: object, metadata: _Metadata | None = None, **options: object
    ) -> object:
        """Call it."""
        return self._method(*arguments, metadata=(*(metadata or ()), *self._own), **options)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return another way to call it: ``future`` or ``with_call``."""
        other = _Method(lambda: getattr(self._method, name), self._own)
        return other.__call__
