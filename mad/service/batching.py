"""Micro-batching: concurrent requests in, one run of the model at a time, each request's part out.

The model belongs to one thread. Whatever waits when that thread is free becomes the next batch,
but for what would make a request late that is in time without it. What nobody waits for any more
never reaches the model.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeAlias, TypeVar, cast, final

import torch

from mad.errors import ConfigError, ExpiredError, InputError
from mad.judgement import Judgement
from mad.metrics import Metrics
from mad.monitor import Monitor
from mad.service.admission import Admission, Job
from mad.service.deadline import deadline
from mad.service.joining import concatenate, has_batch_axis, join, split
from mad.service.shadowing import Shadowing
from mad.service.shares import Shares
from mad.service.worker import Worker
from mad.types import Explanation, Inputs, Verdict, batch_size

log = logging.getLogger(__name__)

Result = TypeVar("Result")
_Signature: TypeAlias = tuple[tuple[str, torch.dtype, tuple[int, ...]], ...]


@final
@dataclass(kw_only=True, eq=False)
class _Request(Job):
    """Inputs to judge, which may share a run with others."""

    monitor: Monitor
    values: Inputs
    shadow: Monitor | None = None

    @cached_property
    def signature(self) -> _Signature:
        """What inputs must share to be concatenated."""
        return tuple(
            (name, tensor.dtype, tuple(tensor.shape[1:]))
            for name, tensor in sorted(self.values.items())
        )

    def joins(self, other: "_Request") -> bool:
        """Whether both can be judged in one run of the model."""
        is_alike = self.monitor is other.monitor and self.shadow is other.shadow
        return is_alike and self.signature == other.signature


@final
@dataclass(kw_only=True, eq=False)
class _Single(Job):
    """Something else to do in the model's thread."""

    function: Callable[[], object]


@final
class Batcher:
    """Judges requests together, up to ``max_batch`` inputs a run of the model.

    At most ``max_queued_inputs`` inputs are accepted and not yet answered. Every method waits for
    its answer until the ``deadline`` of its context, and raises OverloadedError where that cannot
    be kept or too much waits already, ExpiredError where it has passed, ShuttingDownError while
    closing.
    """

    def __init__(
        self,
        *,
        max_batch: int,
        max_queued_inputs: int,
        metrics: Metrics,
        shares: Shares,
        shadowing: Shadowing,
    ) -> None:
        if max_batch < 1 or max_queued_inputs < 1:
            raise ConfigError(
                f"max_batch {max_batch} and max_queued_inputs {max_queued_inputs} must be positive"
            )
        self._max_batch = max_batch
        self._metrics = metrics
        self._shadowing = shadowing
        self._admission = Admission(
            max_batch=max_batch,
            max_queued_inputs=max_queued_inputs,
            shares=shares,
            metrics=metrics,
        )
        self._worker: Worker[Job, object] = Worker(
            "model",
            choose=self._choose,
            work=self._work,
            refuse=self._late,
            expected_s=self._admission.expected_s,
        )

    @property
    def max_batch(self) -> int:
        """Inputs that one run of the model takes at most."""
        return self._max_batch

    def start(self) -> None:
        """Begin to work, in the running event loop."""
        self._worker.start()

    async def close(self) -> None:
        """Finish what was accepted and refuse more."""
        await self._worker.close()

    async def judge(
        self, monitor: Monitor, inputs: Inputs, *, shadow: Monitor | None = None
    ) -> Judgement:
        """Judge inputs of the right form, in company of other requests.

        A ``shadow`` judges the same run of the model, is counted, and changes no answer. Raises
        InputError for numbers that are not finite.
        """
        request = _Request(
            inputs=batch_size(inputs),
            deadline=deadline.get(),
            monitor=monitor,
            values=inputs,
            shadow=shadow,
        )
        return cast("Judgement", await self._answer(request))

    async def explain(
        self, monitor: Monitor, inputs: Inputs, *, max_charges: int
    ) -> tuple[Verdict, Explanation]:
        """Explain one checked input."""
        explain = partial(monitor.explain, inputs, max_charges=max_charges)
        return await self.run(explain, size=1, kind="explain")

    async def run(self, function: Callable[[], Result], *, size: int, kind: str = "run") -> Result:
        """Run a function on ``size`` inputs in the model's thread.

        Functions of one ``kind`` take alike long for alike many inputs.
        """
        # In a copy of the request's context, so that lines logged there carry its id.
        told = partial(copy_context().run, function)
        single = _Single(inputs=size, deadline=deadline.get(), alone=kind, function=told)
        return cast("Result", await self._answer(single))

    async def call(self, function: Callable[[], Result], *, kind: str = "call") -> Result:
        """Run a function of no inputs in the model's thread."""
        return await self.run(function, size=1, kind=kind)

    async def _answer(self, job: Job) -> object:
        self._admission.admit(job)
        try:
            return await self._worker.submit(job)
        finally:
            self._admission.release(job)

    def _late(self, job: Job) -> ExpiredError | None:
        try:
            self._admission.check(job)
        except ExpiredError as error:
            return error
        return None

    def _choose(self, waiting: Iterable[Job]) -> Sequence[Job]:
        others = iter(waiting)
        first = next(others)
        chosen = [first]
        if isinstance(first, _Request):
            chosen = self._admission.company(first, _joining(first, others))
        self._admission.take(chosen)
        return chosen

    def _work(self, jobs: Sequence[Job]) -> Sequence[object]:
        try:
            match jobs:
                case [_Single() as single]:
                    return [self._do(single)]
                case _:
                    return self._judge([job for job in jobs if isinstance(job, _Request)])
        finally:
            self._admission.end()

    def _do(self, single: _Single) -> object:
        try:
            with self._admission.timed(single.inputs, alone=single.alone):
                return single.function()
        except Exception as error:  # noqa: BLE001  # the caller's future carries it on
            return error

    def _judge(self, requests: Sequence[_Request]) -> Sequence[Judgement | Exception]:
        """Judge requests together; those that cannot be do not spoil it for the others.

        Their numbers are looked through here rather than before they are queued: in the event loop
        it would hold up every other call.
        """
        if len(requests) == 1:
            return [self._judge_alone(requests[0])]
        try:
            joined = join([each.values for each in requests])
            requests[0].monitor.check_numbers(joined)
            judged = self._run(requests[0], joined)
            if has_batch_axis(judged):
                return split(judged, [each.inputs for each in requests])
        except InputError:
            refused = {each: error for each in requests if (error := _unfit(each))}
            if refused:
                fit = [each for each in requests if each not in refused]
                found = iter(self._judge(fit) if fit else ())
                return [refused.get(each) or next(found) for each in requests]
        except Exception:
            log.info("a joint batch failed; its requests run one by one", exc_info=True)
        return [self._judge_alone(each) for each in requests]

    def _judge_alone(self, request: _Request) -> Judgement | Exception:
        starts = range(0, request.inputs, self._max_batch)
        try:
            request.monitor.check_numbers(request.values)
            return concatenate([self._judge_slice(request, start) for start in starts])
        except Exception as error:  # noqa: BLE001  # the caller's future carries it on
            return error

    def _judge_slice(self, request: _Request, start: int) -> Judgement:
        self._admission.check(request)
        values = request.values
        if request.inputs > self._max_batch:
            values = _rows(values, start, start + self._max_batch)
        return self._run(request, values)

    def _run(self, request: _Request, inputs: Inputs) -> Judgement:
        size = batch_size(inputs)
        with self._admission.timed(size):
            observed = request.monitor.scorer.observe(inputs)
            judgement = request.monitor.judge_observed(observed)
            # What has no batch axis is run once more for each request, and counted then.
            if request.shadow is not None and (size == request.inputs or has_batch_axis(judgement)):
                self._shadowing.judge(request.shadow, request.monitor, observed, inputs)
        self._metrics.batch_ran(size, judgement.stage_seconds)
        return judgement


def _joining(first: _Request, waiting: Iterator[Job]) -> Iterator[Job]:
    return (job for job in waiting if isinstance(job, _Request) and job.joins(first))


def _unfit(request: _Request) -> InputError | None:
    try:
        request.monitor.check_numbers(request.values)
    except InputError as error:
        return error
    return None


def _rows(inputs: Inputs, start: int, stop: int) -> Inputs:
    return {name: tensor[start:stop] for name, tensor in inputs.items()}
