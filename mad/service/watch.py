"""Live surprises in, in the order they were scored; evidence, alarms and checkpoints out.

An alarm stands until somebody resets the stream, over restarts too: whether an incident is over is
for a person to say, and evidence that once sufficed would take long to wane by itself. Evidence
goes on growing or waning meanwhile, and per-input alerts are not affected.
"""

import asyncio
import logging
import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Final, TypeAlias, final

import numpy as np
from jaxtyping import Float64

from mad.baseline.bundle import Baseline
from mad.errors import MadError
from mad.metrics import Metrics
from mad.service.worker import Worker
from mad.streams.checkpoint import Checkpoint, load, owner, save
from mad.streams.monitor import Reading, Stream, StreamMonitor
from mad.types import Measure, Verdict

log = logging.getLogger(__name__)

MAX_PENDING: Final = 65_536
"""Inputs that may wait for a stuck disk; further ones are left out, whatever their surprise."""
_SEED_BITS: Final = 63
_REST_S: Final = 0.1
"""Inputs are taken in so often: it costs more than a call does, for one input as for many."""
_MEASURED: Final[Mapping[Measure, Callable[[Verdict], float]]] = {
    "surprise": lambda verdict: verdict.surprise_bits,
    "mechanism": lambda verdict: verdict.mechanism_bits,
    "novelty": lambda verdict: verdict.novelty_bits,
}


@final
@dataclass(frozen=True, kw_only=True)
class WatchPlan:
    """How streams are watched; see the settings. Without a checkpoint nothing outlives a server."""

    false_alarm_rate: float = 0.01
    inputs_per_false_alarm: int = 100_000
    checkpoint: Path | None = None
    checkpoint_s: float = 10.0


@final
@dataclass(frozen=True)
class Snapshot:
    """A stream at one moment, and the revision of the baseline it is measured against."""

    revision: str
    stream: Stream
    readings: tuple[Reading, Reading]


@dataclass(frozen=True, eq=False)
class _Fed:
    surprise: Float64[np.ndarray, " batch"]


@dataclass(frozen=True, eq=False)
class _Asked:
    is_reset: bool


@dataclass(frozen=True, eq=False)
class _Switched:
    baseline: Baseline


_Job: TypeAlias = _Fed | _Asked | _Switched
_Answer: TypeAlias = tuple[Snapshot, Snapshot]
"""The stream before a job and after it."""


@final
class StreamWatch:
    """Holds the stream of one baseline, in a thread of its own; nobody waits for it to be fed.

    Continues the checkpoint, if that is of the same baseline. Raises ConfigError for a damaged one.
    """

    def __init__(
        self,
        baseline: Baseline,
        plan: WatchPlan,
        *,
        metrics: Metrics,
        clock: Callable[[], datetime],
    ) -> None:
        self._plan = plan
        self._measure_against(baseline)
        self._fed = baseline.manifest
        self._metrics = metrics
        self._clock = clock
        self._pending = 0
        self._saved = clock()
        self._stream = self._restored() or self._begun()
        self._publish()
        self._worker: Worker[_Job, _Answer] = Worker("stream", choose=list, work=self._do)
        self._unfed: list[float] = []
        self._is_closed = False
        self._feeding: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to take inputs, in the running event loop."""
        self._worker.start()

    async def close(self) -> None:
        """Take in what waits, write a last checkpoint, and stop."""
        self._pass_on()
        self._is_closed = True
        await self._worker.close()
        self._save()

    def feed(self, revision: str, verdicts: Sequence[Verdict]) -> None:
        """Take in inputs that were scored just now.

        Those of another baseline are left out, and those whose measure is not known, as of codes.
        """
        if revision != self._fed.revision:
            return
        of = _MEASURED[self._fed.alert_on]
        measured = [bits for bits in map(of, verdicts) if not math.isnan(bits)]
        waiting = self._pending + len(self._unfed)
        if self._is_closed or waiting + len(measured) > MAX_PENDING:
            self._metrics.stream_left_out(len(measured))
            return
        self._unfed += measured
        if self._feeding is None:
            self._feeding = asyncio.get_running_loop().call_later(_REST_S, self._pass_on)

    async def look(self) -> Snapshot:
        """Return the stream after everything fed so far."""
        self._pass_on()
        _, now = await self._worker.submit(_Asked(is_reset=False))
        return now

    async def reset(self) -> tuple[Snapshot, Snapshot]:
        """Begin a new stream; return the one that ended, and the new one."""
        self._pass_on()
        return await self._worker.submit(_Asked(is_reset=True))

    def _pass_on(self) -> None:
        """Hand what was fed to the stream's thread."""
        if self._feeding is not None:
            self._feeding.cancel()
            self._feeding = None
        count = len(self._unfed)
        if not count:
            return
        fed = _Fed(np.array(self._unfed))
        self._unfed = []
        try:
            taken = self._worker.enqueue(fed)
        except MadError:  # it closes, as the last of the calls under way are cut off
            self._metrics.stream_left_out(count)
            return
        self._count(count)
        taken.add_done_callback(lambda _: self._count(-count))

    def switch(self, baseline: Baseline) -> None:
        """Begin a new stream against another baseline, with what is fed from now on.

        Evidence and alarms of the one before are gone: they were against what no longer scores.
        """
        self._pass_on()
        self._fed = baseline.manifest
        with suppress(MadError):  # it closes
            self._worker.enqueue(_Switched(baseline))

    def _count(self, change: int) -> None:
        self._pending += change

    def _measure_against(self, baseline: Baseline) -> None:
        self._baseline = baseline.manifest
        self._monitor = StreamMonitor.of(
            baseline.reference.numpy(),
            false_alarm_rate=self._plan.false_alarm_rate,
            inputs_per_false_alarm=self._plan.inputs_per_false_alarm,
        )

    def _do(self, jobs: Sequence[_Job]) -> Sequence[_Answer]:
        """Do what waits in the stream's own thread, in order."""
        answers: list[_Answer] = []
        for _, some in groupby(jobs, key=type):
            group = list(some)
            # What was fed meanwhile is one batch: twenty times faster than one by one.
            if fed := [job for job in group if isinstance(job, _Fed)]:
                answers += [self._advance(fed)] * len(fed)
            answers += [self._answer(job) for job in group if isinstance(job, _Asked)]
            answers += [self._switched(job) for job in group if isinstance(job, _Switched)]
        self._publish()
        late = not timedelta(0) <= self._clock() - self._saved < self._period
        if late or any(_is_news(before, after) for before, after in answers):
            self._save()
        return answers

    def _answer(self, asked: _Asked) -> _Answer:
        before = self._snapshot()
        if asked.is_reset:
            self._stream = self._begun()
            log.info("stream reset", extra={"ended": _fields(before)})
        return before, self._snapshot()

    def _switched(self, to: _Switched) -> _Answer:
        before = self._snapshot()
        self._measure_against(to.baseline)
        self._stream = self._begun()
        log.info("stream of another baseline", extra={"ended": _fields(before)})
        return before, self._snapshot()

    def _advance(self, fed: Sequence[_Fed]) -> _Answer:
        before = self._snapshot()
        surprise = np.concatenate([each.surprise for each in fed])
        self._stream = self._monitor.advance(self._stream, surprise, now=self._clock())
        after = self._snapshot()
        for reading in _raised(before, after):
            self._metrics.stream_alarmed(self._baseline.name, reading.channel)
            fields = {"revision": after.revision, **asdict(reading)}
            log.warning("stream alarm: %s", fields, extra=fields)
        return before, after

    @property
    def _period(self) -> timedelta:
        return timedelta(seconds=self._plan.checkpoint_s)

    def _snapshot(self) -> Snapshot:
        stream = self._stream
        return Snapshot(self._baseline.revision, stream, self._monitor.readings(stream))

    def _begun(self) -> Stream:
        return self._monitor.start(seed=secrets.randbits(_SEED_BITS), now=self._clock())

    def _restored(self) -> Stream | None:
        found = load(self._plan.checkpoint) if self._plan.checkpoint else None
        if found is None:
            return None
        mine = owner(self._baseline.revision, self._monitor)
        if found.owner != mine:
            fields = {"before": found.owner, "now": mine}
            log.warning("another baseline, so another stream: %s", fields, extra=fields)
            return None
        return found.stream

    def _save(self) -> None:
        """Write a checkpoint; one that cannot be written is counted, and the next is tried."""
        self._saved = self._clock()
        if self._plan.checkpoint is None:
            return
        mine = owner(self._baseline.revision, self._monitor)
        try:
            save(self._plan.checkpoint, Checkpoint(mine, self._stream))
        except MadError as error:
            self._metrics.stream_checkpoint_failed()
            log.error("stream not checkpointed: %s", error)  # noqa: TRY400  # the operator's disk

    def _publish(self) -> None:
        self._metrics.stream_read(
            self._baseline.name,
            self._monitor.readings(self._stream),
            inputs=self._stream.inputs,
            began=self._stream.began,
        )


def _raised(before: Snapshot, after: Snapshot) -> list[Reading]:
    had = [reading.channel for reading in before.readings if reading.alarm]
    return [new for new in after.readings if new.alarm and new.channel not in had]


def _is_news(before: Snapshot, after: Snapshot) -> bool:
    return before.stream.seed != after.stream.seed or bool(_raised(before, after))


def _fields(snapshot: Snapshot) -> dict[str, object]:
    return {
        "revision": snapshot.revision,
        "inputs": snapshot.stream.inputs,
        "evidence_bits": {each.channel: each.evidence_bits for each in snapshot.readings},
    }
