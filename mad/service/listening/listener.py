"""The gRPC server that calls come to: on gRPC's core where that is known to us, else grpc.aio's."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias, cast, final

import grpc

from mad.service.listening.known import KNOWN, is_known

RpcHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Wrap: TypeAlias = Callable[[RpcHandler, str], RpcHandler]
"""What is put around a handler, given its path; the new one takes and gives bytes."""

log = logging.getLogger(__name__)


def listener(
    *, wrap: Wrap, options: Sequence[tuple[str, int]], version: str = grpc.__version__
) -> grpc.aio.Server:
    """Return a server that runs handlers in the running event loop.

    The core is no public interface of grpcio, so a version that we do not know gets grpc.aio's own
    server, which answers alike for half as much processor time again, rather than none.
    """
    if is_known(version):
        from mad.service.listening.server import CoreServer  # noqa: PLC0415  # not of a core unknown

        return cast("grpc.aio.Server", CoreServer(wrap=wrap, options=options))
    oldest, newest = (".".join(map(str, one)) for one in KNOWN)
    log.warning(
        "grpcio %s is not between %s and %s, so calls are served by grpc.aio, which takes about "
        "half as much processor time again; install a grpcio between them to have it back",
        version,
        oldest,
        newest,
    )
    return grpc.aio.server(interceptors=[_Wrapping(wrap)], options=options)


@final
class _Wrapping(grpc.aio.ServerInterceptor):
    """Puts something around every handler that grpc.aio's server has."""

    def __init__(self, wrap: Wrap) -> None:
        self._wrap = wrap
        self._known: dict[str, RpcHandler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["RpcHandler | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "RpcHandler | None":
        """Wrap the handler; an unknown method has none."""
        path: str = handler_call_details.method
        if known := self._known.get(path):
            return known
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        # Only what a server has comes here, so callers cannot make it grow.
        wrapped = self._known[path] = self._wrap(handler, path)
        return wrapped
