"""The Python client, sync and asyncio: arrays in, messages of ``mad.v1`` out. Needs only grpc.

Calls that fail raise ``grpc.RpcError`` with the server's status and sentence.
"""

from mad.client.calls import DEFAULT_TIMEOUT_S, SERVICE_CONFIG, AsyncClient, Client
from mad.client.messages import (
    Array,
    Scored,
    TensorLike,
    activations,
    channel,
    request,
    tensor,
    term,
)

__all__ = [
    "DEFAULT_TIMEOUT_S",
    "SERVICE_CONFIG",
    "Array",
    "AsyncClient",
    "Client",
    "Scored",
    "TensorLike",
    "activations",
    "channel",
    "request",
    "tensor",
    "term",
]
