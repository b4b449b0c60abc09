"""Calls to a running server, sync and asyncio."""

import asyncio
import json
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Iterable,
    Iterator,
    Mapping,
)
from typing import TYPE_CHECKING, Final, Self, cast, final

import grpc

from mad.client.alerts import AlertCalls, AsyncAlertCalls
from mad.client.async_score_stream import AsyncScoreStream
from mad.client.calibration import AsyncCalibrationCall, CalibrationCall
from mad.client.channels import open_aio_channel, open_channel
from mad.client.fitting import AsyncFitCalls, FitCalls
from mad.client.messages import (
    Scored,
    TensorLike,
    as_request,
    explain_request,
)
from mad.client.outgoing import sent
from mad.client.score_stream import ScoreStream
from mad.client.service_config import SERVICE_CONFIG
from mad.client.unanswered import IN_FLIGHT
from mad.client.versions import AsyncVersionCalls, VersionCalls
from mad.v1 import (
    alerts_pb2,
    alerts_pb2_grpc,
    baselines_pb2,
    baselines_pb2_grpc,
    scoring_pb2,
    scoring_pb2_grpc,
    streams_pb2,
    streams_pb2_grpc,
)

if TYPE_CHECKING:
    from mad.v1.alerts_pb2_grpc import AlertServiceAsyncStub
    from mad.v1.baselines_pb2_grpc import BaselineServiceAsyncStub
    from mad.v1.scoring_pb2_grpc import ScoringServiceAsyncStub
    from mad.v1.streams_pb2_grpc import StreamServiceAsyncStub

DEFAULT_TIMEOUT_S: Final = 30.0

_OPTIONS: Final = (
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 60_000),
)


@final
class Client:
    """Asks a running service, and waits for its answers.

    ``target`` is an address such as ``127.0.0.1:8001``, for a channel of its own that ``close``
    closes, or a channel made elsewhere, which stays open. Calls are shared between the replicas
    that serve, of several addresses, ``ipv4:10.0.0.1:8001,10.0.0.2:8001``, or of a name that has
    several, ``dns:///mad.example:8001``. ``timeout_s`` is for every unary call. A channel of its
    own carries ``token``, and is in the clear, to this machine only if there is a token, unless
    ``credentials`` such as ``grpc.ssl_channel_credentials()`` are given.
    ``fits`` sends trusted inputs and follows what becomes of them, ``versions`` promotes and goes
    back, ``alert_log`` watches alerts and
    acknowledges them, ``calibration`` tells whether the promise is kept. ``scoring``, ``baseline``,
    ``alert`` and ``traffic`` are the generated stubs, for what is not shortened here.
    """

    def __init__(
        self,
        target: str | grpc.Channel,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        token: str = "",
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._own: grpc.Channel | None = None
        if isinstance(target, str):
            self._own = open_channel(target, _OPTIONS, token=token, credentials=credentials)
        channel = self._own or cast("grpc.Channel", target)
        self.scoring = scoring_pb2_grpc.ScoringServiceStub(channel)
        self.baseline = baselines_pb2_grpc.BaselineServiceStub(channel)
        self.fits = FitCalls(self.baseline, timeout_s)
        self.versions = VersionCalls(self.baseline, timeout_s)
        self.alert = alerts_pb2_grpc.AlertServiceStub(channel)
        self.alert_log = AlertCalls(self.alert, timeout_s)
        self.traffic = streams_pb2_grpc.StreamServiceStub(channel)
        self.calibration = CalibrationCall(channel, timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel, if this client opened it."""
        if self._own is not None:
            self._own.close()

    def score(
        self,
        inputs: Scored | scoring_pb2.ScoreRequest,
        *,
        baseline: str = "",
        options: scoring_pb2.ScoreOptions | None = None,
    ) -> scoring_pb2.ScoreResponse:
        """Score named arrays of one batch size, activations or codes, or a request built before."""
        message = as_request(inputs, baseline, options)
        return self.scoring.Score(message, timeout=self._timeout_s)

    def stream(
        self, requests: Iterable[scoring_pb2.ScoreRequest]
    ) -> Iterator[scoring_pb2.ScoreStreamResponse]:
        """Score many requests over one stream; answers come as they are ready, by request id."""
        messages = (scoring_pb2.ScoreStreamRequest(request=each) for each in requests)
        return self.scoring.ScoreStream(messages)

    def open_stream(self, *, in_flight: int = IN_FLIGHT) -> ScoreStream:
        """Return a stream to score over for long, which outlives the servers that answer it."""
        return ScoreStream(self.scoring.ScoreStream, in_flight=in_flight, timeout_s=self._timeout_s)

    def explain(
        self,
        inputs: Mapping[str, TensorLike],
        *,
        baseline: str = "",
        max_charges: int = 0,
        counterfactuals: bool = False,
    ) -> scoring_pb2.ExplainResponse:
        """Split the description of one input; ``max_charges`` 0 leaves their number to the server.

        With ``counterfactuals`` the model also runs without what the charges name.
        """
        message = explain_request(inputs, baseline, max_charges, counterfactuals=counterfactuals)
        return self.scoring.Explain(message, timeout=self._timeout_s)

    def baselines(self, name: str = "") -> baselines_pb2.ListBaselinesResponse:
        """List the versions of one baseline, or of all."""
        message = baselines_pb2.ListBaselinesRequest(name=name)
        return self.baseline.ListBaselines(message, timeout=self._timeout_s)

    def alerts(
        self,
        baseline: str = "",
        *,
        page_size: int = 0,
        page_token: str = "",
        only: alerts_pb2.AlertFilter | None = None,
    ) -> alerts_pb2.ListAlertsResponse:
        """Return one page of alerts, newest first; ``page_size`` 0 leaves it to the server."""
        message = alerts_pb2.ListAlertsRequest(
            baseline=baseline, page_size=page_size, page_token=page_token, filter=only
        )
        return self.alert.ListAlerts(message, timeout=self._timeout_s)

    def evidence(self) -> streams_pb2.GetStreamResponse:
        """Return what live inputs, taken together, have shown since their stream began."""
        return self.traffic.GetStream(streams_pb2.GetStreamRequest(), timeout=self._timeout_s)

    def reset_evidence(self) -> streams_pb2.ResetStreamResponse:
        """Begin a new stream: evidence and alarms of the one before are gone for good."""
        return self.traffic.ResetStream(streams_pb2.ResetStreamRequest(), timeout=self._timeout_s)


@final
class AsyncClient:
    """The same as ``Client``, for asyncio; to be made in a running event loop."""

    def __init__(
        self,
        target: str | grpc.aio.Channel,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        token: str = "",
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._own: grpc.aio.Channel | None = None
        if isinstance(target, str):
            self._own = open_aio_channel(target, _OPTIONS, token=token, credentials=credentials)
        channel = self._own or cast("grpc.aio.Channel", target)
        # The generated stubs serve both kinds of channel; only their types differ.
        self.scoring = cast("ScoringServiceAsyncStub", scoring_pb2_grpc.ScoringServiceStub(channel))
        self.baseline = cast(
            "BaselineServiceAsyncStub", baselines_pb2_grpc.BaselineServiceStub(channel)
        )
        self.fits = AsyncFitCalls(self.baseline, timeout_s)
        self.versions = AsyncVersionCalls(self.baseline, timeout_s)
        self.alert = cast("AlertServiceAsyncStub", alerts_pb2_grpc.AlertServiceStub(channel))
        self.alert_log = AsyncAlertCalls(self.alert, timeout_s)
        self.traffic = cast("StreamServiceAsyncStub", streams_pb2_grpc.StreamServiceStub(channel))
        self.calibration = AsyncCalibrationCall(channel, timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel, if this client opened it."""
        if self._own is not None:
            await self._own.close()

    async def score(
        self,
        inputs: Scored | scoring_pb2.ScoreRequest,
        *,
        baseline: str = "",
        options: scoring_pb2.ScoreOptions | None = None,
    ) -> scoring_pb2.ScoreResponse:
        """Score named arrays of one batch size, activations or codes, or a request built before."""
        message = as_request(inputs, baseline, options)
        return await self.scoring.Score(message, timeout=self._timeout_s)

    async def stream(
        self,
        requests: Iterable[scoring_pb2.ScoreRequest] | AsyncIterable[scoring_pb2.ScoreRequest],
    ) -> AsyncGenerator[scoring_pb2.ScoreStreamResponse]:
        """Score many requests over one stream; answers come as they are ready, by request id.

        A server that drains answers UNAVAILABLE; nothing more is sent then, and the stream ends
        with that status: open it to another replica, from the first request without an answer.
        """
        refused = asyncio.Event()
        call = self.scoring.ScoreStream(sent(requests, refused))
        try:
            async for answer in call:
                if answer.error.code == grpc.StatusCode.UNAVAILABLE.value[0]:
                    refused.set()
                yield answer
        finally:
            call.cancel()  # else one that is left early would go on being scored

    def open_stream(self, *, in_flight: int = IN_FLIGHT) -> AsyncScoreStream:
        """Return a stream to score over for long, which outlives the servers that answer it."""
        return AsyncScoreStream(
            self.scoring.ScoreStream, in_flight=in_flight, timeout_s=self._timeout_s
        )

    async def explain(
        self,
        inputs: Mapping[str, TensorLike],
        *,
        baseline: str = "",
        max_charges: int = 0,
        counterfactuals: bool = False,
    ) -> scoring_pb2.ExplainResponse:
        """Split the description of one input; ``max_charges`` 0 leaves their number to the server.

        With ``counterfactuals`` the model also runs without what the charges name.
        """
        message = explain_request(inputs, baseline, max_charges, counterfactuals=counterfactuals)
        return await self.scoring.Explain(message, timeout=self._timeout_s)

    async def baselines(self, name: str = "") -> baselines_pb2.ListBaselinesResponse:
        """List the versions of one baseline, or of all."""
        message = baselines_pb2.ListBaselinesRequest(name=name)
        return await self.baseline.ListBaselines(message, timeout=self._timeout_s)

    async def alerts(
        self,
        baseline: str = "",
        *,
        page_size: int = 0,
        page_token: str = "",
        only: alerts_pb2.AlertFilter | None = None,
    ) -> alerts_pb2.ListAlertsResponse:
        """Return one page of alerts, newest first; ``page_size`` 0 leaves it to the server."""
        message = alerts_pb2.ListAlertsRequest(
            baseline=baseline, page_size=page_size, page_token=page_token, filter=only
        )
        return await self.alert.ListAlerts(message, timeout=self._timeout_s)

    async def evidence(self) -> streams_pb2.GetStreamResponse:
        """Return what live inputs, taken together, have shown since their stream began."""
        return await self.traffic.GetStream(streams_pb2.GetStreamRequest(), timeout=self._timeout_s)

    async def reset_evidence(self) -> streams_pb2.ResetStreamResponse:
        """Begin a new stream: evidence and alarms of the one before are gone for good."""
        message = streams_pb2.ResetStreamRequest()
        return await self.traffic.ResetStream(message, timeout=self._timeout_s)
