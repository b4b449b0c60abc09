"""The stream servicer: what live traffic, taken together, has shown; and a new beginning."""

from dataclasses import dataclass
from typing import Final, final

from mad.service import convert
from mad.service.calls import Context
from mad.service.watch import Snapshot, StreamWatch
from mad.streams.monitor import Alarm, Channel, Reading
from mad.v1 import streams_pb2 as pb, streams_pb2_grpc as rpc

_CHANNELS: Final[dict[Channel, "pb.StreamChannel.ValueType"]] = {
    "fast": pb.STREAM_CHANNEL_FAST,
    "never_false": pb.STREAM_CHANNEL_NEVER_FALSE,
}


@final
@dataclass(frozen=True)
class StreamServicer(rpc.StreamServiceServicer):
    """Answers GetStream and ResetStream."""

    watch: StreamWatch

    async def GetStream(
        self, request: pb.GetStreamRequest, context: Context
    ) -> pb.GetStreamResponse:
        """Return the evidence of every input answered before."""
        return pb.GetStreamResponse(stream=_stream(await self.watch.look()))

    async def ResetStream(
        self, request: pb.ResetStreamRequest, context: Context
    ) -> pb.ResetStreamResponse:
        """Begin a new stream."""
        ended, begun = await self.watch.reset()
        return pb.ResetStreamResponse(ended=_stream(ended), begun=_stream(begun))


def _stream(snapshot: Snapshot) -> pb.Stream:
    return pb.Stream(
        baseline_revision=snapshot.revision,
        begin_time=convert.timestamp(snapshot.stream.began),
        inputs=snapshot.stream.inputs,
        channels=map(_evidence, snapshot.readings),
    )


def _evidence(reading: Reading) -> pb.StreamEvidence:
    return pb.StreamEvidence(
        channel=_CHANNELS[reading.channel],
        evidence_bits=reading.evidence_bits,
        threshold_bits=reading.threshold_bits,
        alarm=None if reading.alarm is None else _alarm(reading.alarm),
    )


def _alarm(alarm: Alarm) -> pb.StreamAlarm:
    return pb.StreamAlarm(at_input=alarm.at_input, alarm_time=convert.timestamp(alarm.time))
