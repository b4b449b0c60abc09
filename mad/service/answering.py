"""The scoring flow that every protocol shares: one question in; verdicts and durable alerts out."""

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import count
from typing import Final, NamedTuple, final

from mad.errors import ForbiddenError, InputError, TooLargeError
from mad.judgement import Judgement
from mad.metrics import Metrics, Traffic
from mad.monitor import Monitor
from mad.payloads import ActivationBatch, CodeBatch, Payload, size_of
from mad.service import coarse
from mad.service.alert_writer import AlertWriter, drafts
from mad.service.auth.probing import Probing
from mad.service.batching import Batcher
from mad.service.caller import caller
from mad.service.errors import request_id
from mad.service.joining import has_batch_axis
from mad.service.observed import Observations
from mad.service.registry import Registry
from mad.service.tracing import Tracing
from mad.service.watch import StreamWatch
from mad.types import Measure

MAX_REQUEST_ID: Final = 128
_SERVER: Final = uuid.uuid4().hex
_NAMELESS: Final = count(1)
"""Requests without an id get one of these in log lines."""


@final
class Question(NamedTuple):
    """What a request asks, whatever protocol it came by.

    ``monitor`` is what the registry resolved for it; ``request_id`` is the caller's, or empty. One
    that several requests ask together has the id of each and how many inputs are its own.
    """

    monitor: Monitor
    payload: Payload
    request_id: str = ""
    traffic: Traffic = "live"
    is_dry_run: bool = False
    together: tuple[tuple[str, int], ...] = ()


@final
class Answer(NamedTuple):
    """What the caller may know of what was found.

    That is by which measure, ids of the alerts raised by row, durable, and when.
    """

    judgement: Judgement
    measure: Measure
    alert_ids: Mapping[int, str]
    time: datetime


@final
@dataclass(frozen=True, kw_only=True)
class Answering:
    """Scores inputs, counts them, feeds the stream and raises alerts."""

    registry: Registry
    batcher: Batcher
    alerts: AlertWriter
    watch: StreamWatch
    observations: Observations
    metrics: Metrics
    tracing: Tracing
    probing: Probing
    coarse_bits: float
    max_request_inputs: int
    clock: Callable[[], datetime]

    async def answer(self, question: Question) -> Answer:
        """Judge a question's inputs, and return once its alerts are durable.

        Raises InputError for inputs that the model does not take, BaselineError for activations or
        codes that are of another model or that the baseline cannot judge, ForbiddenError for
        trusted or canary traffic from a caller that may not fit, and what the batcher raises.
        """
        who = caller.get()
        if question.traffic != "live" and "fit" not in who.roles:
            raise ForbiddenError(
                f"{question.traffic} traffic needs the role fit; send it as live traffic, or as a "
                "caller that has the role"
            )
        monitor = question.monitor
        began_ns = time.time_ns() if self.tracing.is_on else 0
        judgement = await self._judged(question)
        if self.tracing.is_on:
            self.tracing.stages(began_ns, judgement.stage_seconds)
        now = self.clock()
        self.metrics.scored(monitor.baseline.manifest.name, question.traffic, judgement.verdicts)
        self.observations.feed(monitor.baseline, question.traffic, judgement)
        ids: Mapping[int, str] = {}
        if question.traffic == "live" and not question.is_dry_run:
            self.watch.feed(monitor.baseline.revision, judgement.verdicts)
            if any(verdict.is_alert for verdict in judgement.verdicts):
                ids = await self._raised(question, judgement, now)
        if question.traffic == "live":
            self.probing.saw(who.name, monitor.baseline.manifest, judgement.verdicts)
        told = coarse.told(judgement, who, step_bits=self.coarse_bits)
        return Answer(told, _measure(monitor, question.payload), ids, now)

    def begin(self, caller_id: str) -> None:
        """Count a request, which is to ``end``, and name it in log lines.

        Raises InputError for an id that cannot be kept.
        """
        if len(caller_id) > MAX_REQUEST_ID or not caller_id.isprintable():
            raise InputError(
                f"request_id {caller_id[:MAX_REQUEST_ID]!r} has {len(caller_id)} characters; send "
                f"at most {MAX_REQUEST_ID}, all printable",
                field="request_id",
            )
        request_id.set(caller_id or f"{_SERVER}-{next(_NAMELESS)}")
        self.metrics.request_started()

    def end(self) -> None:
        """A request was answered, or given up."""
        self.metrics.request_ended()

    async def _judged(self, question: Question) -> Judgement:
        monitor, payload = question.monitor, question.payload
        self._check_size(size := size_of(payload))
        match payload:
            case ActivationBatch():
                work = partial(_judge_activations, monitor, payload)
                judgement = await self.batcher.run(work, size=size, kind="activations")
            case CodeBatch():
                work = partial(_judge_codes, monitor, payload)
                judgement = await self.batcher.run(work, size=size, kind="codes")
            case _:
                monitor.check_form(payload)
                is_live = question.traffic == "live" and not question.is_dry_run
                shadow = self.registry.shadow if is_live else None
                if monitor is not self.registry.default:
                    shadow = None
                judgement = await self.batcher.judge(monitor, payload, shadow=shadow)
                if question.together and not has_batch_axis(judgement):
                    raise InputError("the model's answers cannot be told apart; ask one by one")
                return judgement
        self.metrics.stages_ran(judgement.stage_seconds)
        return judgement

    def _check_size(self, size: int) -> None:
        if size > self.max_request_inputs:
            raise TooLargeError(
                f"the request has {size} inputs; this server takes at most "
                f"{self.max_request_inputs} a request: split it"
            )

    async def _raised(
        self, question: Question, judgement: Judgement, now: datetime
    ) -> Mapping[int, str]:
        alerts = drafts(
            question.monitor,
            judgement,
            question.payload,
            request_id=question.request_id,
            time=now,
        )
        if question.together:
            asked = [(id_, row) for id_, size in question.together for row in range(size)]
            alerts = {
                row: replace(alert, request_id=asked[row][0], input_index=asked[row][1])
                for row, alert in alerts.items()
            }
        began_ns = time.time_ns()
        ids = await self.alerts.write(list(alerts.values()))
        if self.tracing.is_on and alerts:
            self.tracing.stage("persist", began_ns)
        return dict(zip(alerts, ids, strict=True))


def _judge_codes(monitor: Monitor, batch: CodeBatch) -> Judgement:
    """Check and judge in the model's thread: millions of entries would hold up every call."""
    monitor.check_codes(batch)
    return monitor.judge_codes(batch)


def _judge_activations(monitor: Monitor, batch: ActivationBatch) -> Judgement:
    """Check and judge in the model's thread: the first check runs the model."""
    monitor.check_activations(batch)
    return monitor.judge_activations(batch)


def _measure(monitor: Monitor, payload: Payload) -> Measure:
    return "mechanism" if isinstance(payload, CodeBatch) else monitor.baseline.manifest.alert_on
