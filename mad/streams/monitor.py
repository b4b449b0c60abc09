"""One stream watched by two channels: surprises in, evidence and alarms out.

The fast channel asks whether something has changed lately. Its p-values are ranks among the
reference and the stream so far, which are exact for any length of stream; it is wrong once in
``inputs_per_false_alarm`` inputs, or more rarely. The never-false channel asks whether the stream
was ever unlike the reference. Its p-values are bounded for this one reference, and it is wrong
with a chance of ``false_alarm_rate``, in a stream of any length; in return it is slow.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, TypeAlias, final

import numpy as np
from jaxtyping import Float64, Int64

from mad.streams.bounds import BoundedPValues
from mad.streams.detector import ChangeDetector
from mad.streams.martingale import MixtureMartingale
from mad.streams.ranks import Places, draw_ties, transductive

Channel: TypeAlias = Literal["fast", "never_false"]


@final
@dataclass(frozen=True, slots=True)
class Alarm:
    """When evidence first reached its threshold, by the stream's count and by the clock."""

    at_input: int
    time: datetime


@final
@dataclass(frozen=True, slots=True)
class Reading:
    """One channel now. Its alarm stays, whatever comes after, until another stream is begun."""

    channel: Channel
    evidence_bits: float
    threshold_bits: float
    alarm: Alarm | None


@final
@dataclass(frozen=True, eq=False)
class Stream:
    """What is known of one stream since it began, whose length does not change its size.

    ``counts`` has the reference and the inputs so far, by place. ``seed`` decides every tie.
    """

    began: datetime
    seed: int
    inputs: int
    counts: Int64[np.ndarray, " place"]
    detector: ChangeDetector
    martingale: MixtureMartingale
    alarms: Mapping[Channel, Alarm]


@final
@dataclass(frozen=True, eq=False)
class StreamMonitor:
    """The two channels for one reference; streams are values that it advances."""

    places: Places
    bounded: BoundedPValues
    thresholds: Mapping[Channel, float]

    @staticmethod
    def of(
        reference: Float64[np.ndarray, " reference"],
        *,
        false_alarm_rate: float,
        inputs_per_false_alarm: int,
    ) -> "StreamMonitor":
        """Prepare to watch streams against an ascending reference."""
        # Half of the rate is for an unlucky reference, half for an unlucky stream.
        half = false_alarm_rate / 2
        return StreamMonitor(
            Places.of(reference),
            BoundedPValues.of(reference, delta=half),
            {
                "fast": ChangeDetector.threshold_bits(inputs_per_false_alarm),
                "never_false": MixtureMartingale.threshold_bits(half),
            },
        )

    def start(self, *, seed: int, now: datetime) -> Stream:
        """Begin a stream."""
        return Stream(
            began=now,
            seed=seed,
            inputs=0,
            counts=self.places.reference,
            detector=ChangeDetector.start(),
            martingale=MixtureMartingale.start(),
            alarms={},
        )

    def advance(
        self, stream: Stream, surprise: Float64[np.ndarray, " batch"], *, now: datetime
    ) -> Stream:
        """Return the stream after these inputs, in the order they came; surprises are in bits.

        Law: the same inputs one by one give the same stream, to rounding.
        """
        ranked = transductive(
            self.places.find(surprise),
            stream.counts,
            draw_ties(stream.seed, stream.inputs, surprise.size),
        )
        detector, changed = stream.detector.advance(ranked.p)
        martingale, wealth = stream.martingale.advance(self.bounded.of_inputs(surprise))
        evidence: Mapping[Channel, Float64[np.ndarray, " batch"]] = {
            "fast": changed,
            "never_false": wealth,
        }
        new = {
            channel: Alarm(stream.inputs + int(reached[0]) + 1, now)
            for channel, bits in evidence.items()
            if (reached := np.flatnonzero(bits >= self.thresholds[channel])).size
        }
        return replace(
            stream,
            inputs=stream.inputs + surprise.size,
            counts=ranked.counts,
            detector=detector,
            martingale=martingale,
            alarms={**new, **stream.alarms},
        )

    def readings(self, stream: Stream) -> tuple[Reading, Reading]:
        """Return both channels, the fast one first."""
        return (
            self._reading("fast", stream.detector.bits, stream),
            self._reading("never_false", stream.martingale.bits, stream),
        )

    def _reading(self, channel: Channel, bits: float, stream: Stream) -> Reading:
        return Reading(channel, bits, self.thresholds[channel], stream.alarms.get(channel))
