"""The Python client, sync and asyncio: arrays in, messages of ``mad.v1`` out. Needs only grpc.

Calls that fail raise ``grpc.RpcError`` with the server's status and sentence.
"""

from mad.client.alerts import alert_filter, disposition
from mad.client.async_score_stream import AsyncScoreStream
from mad.client.calibration import traffic_options
from mad.client.calls import DEFAULT_TIMEOUT_S, AsyncClient, Client
from mad.client.fitting import fit_config, fit_steps, job_state
from mad.client.messages import (
    Array,
    Scored,
    TensorLike,
    activations,
    channel,
    codes,
    request,
    tensor,
    term,
)
from mad.client.score_stream import ScoreStream
from mad.client.service_config import SERVICE_CONFIG
from mad.client.unanswered import RequestError
from mad.v1.scoring_pb2 import ScoreRequest, ScoreResponse

__all__ = [
    "DEFAULT_TIMEOUT_S",
    "SERVICE_CONFIG",
    "Array",
    "AsyncClient",
    "AsyncScoreStream",
    "Client",
    "RequestError",
    "ScoreRequest",
    "ScoreResponse",
    "ScoreStream",
    "Scored",
    "TensorLike",
    "activations",
    "alert_filter",
    "channel",
    "codes",
    "disposition",
    "fit_config",
    "fit_steps",
    "job_state",
    "request",
    "tensor",
    "term",
    "traffic_options",
]
