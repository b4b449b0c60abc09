"""Micro-batching: concurrent requests in, one run of the model at a time, each request's part out.

The model belongs to one thread. Whatever waits when that thread is free becomes the next batch.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, final

import torch

from mad.errors import ConfigError, InputError, OverloadedError
from mad.metrics import Metrics
from mad.monitor import Judgement, Monitor
from mad.service.worker import Result, Worker
from mad.types import Explanation, Inputs, Verdict, batch_size

log = logging.getLogger(__name__)

_Signature: TypeAlias = tuple[tuple[str, torch.dtype, tuple[int, ...]], ...]


@dataclass(frozen=True, eq=False)
class _Request:
    monitor: Monitor
    inputs: Inputs

    @property
    def size(self) -> int:
        """How many inputs it has."""
        return batch_size(self.inputs)

    @property
    def signature(self) -> _Signature:
        """What inputs must share to be concatenated."""
        return tuple(
            (name, tensor.dtype, tuple(tensor.shape[1:]))
            for name, tensor in sorted(self.inputs.items())
        )

    def joins(self, other: "_Request") -> bool:
        """Whether both can be judged in one run of the model."""
        return self.monitor is other.monitor and self.signature == other.signature


@final
class Batcher:
    """Judges requests together, up to ``max_batch`` inputs a run of the model.

    At most ``max_queued_inputs`` inputs are accepted and not yet answered.
    """

    def __init__(self, *, max_batch: int, max_queued_inputs: int, metrics: Metrics) -> None:
        if max_batch < 1 or max_queued_inputs < 1:
            raise ConfigError(
                f"max_batch {max_batch} and max_queued_inputs {max_queued_inputs} must be positive"
            )
        self._max_batch = max_batch
        self._max_queued = max_queued_inputs
        self._queued = 0
        self._metrics = metrics
        self._worker: Worker[_Request, Judgement] = Worker(
            "model", choose=self._choose, work=self._judge
        )

    def start(self) -> None:
        """Begin to work, in the running event loop."""
        self._worker.start()

    async def close(self) -> None:
        """Finish what was accepted and refuse more."""
        await self._worker.close()

    async def judge(self, monitor: Monitor, inputs: Inputs) -> Judgement:
        """Judge checked inputs, in company of other requests.

        Raises OverloadedError when too much waits already, ShuttingDownError while closing.
        """
        request = _Request(monitor, inputs)
        with self._admitted(request.size):
            return await self._worker.submit(request)

    async def explain(
        self, monitor: Monitor, inputs: Inputs, *, max_charges: int
    ) -> tuple[Verdict, Explanation]:
        """Explain one checked input; raises as ``judge`` does."""
        return await self.run(partial(monitor.explain, inputs, max_charges=max_charges), size=1)

    async def run(self, function: Callable[[], Result], *, size: int) -> Result:
        """Run a function on ``size`` inputs in the model's thread; raises as ``judge`` does."""
        with self._admitted(size):
            return await self._worker.call(function)

    async def call(self, function: Callable[[], Result]) -> Result:
        """Run a function in the thread that owns the model."""
        return await self._worker.call(function)

    @contextmanager
    def _admitted(self, size: int) -> Iterator[None]:
        if self._queued + size > self._max_queued:
            raise OverloadedError(
                f"{self._queued} inputs wait and this server queues at most {self._max_queued}; "
                "retry later, or with fewer inputs"
            )
        self._count(size)
        try:
            yield
        finally:
            self._count(-size)

    def _count(self, change: int) -> None:
        self._queued += change
        self._metrics.queue_depth(self._queued)

    def _choose(self, waiting: Iterable[_Request]) -> Sequence[_Request]:
        first, *others = waiting
        chosen = [first]
        room = self._max_batch - first.size
        for request in others:
            if room <= 0:
                break
            if request.size <= room and request.joins(first):
                chosen.append(request)
                room -= request.size
        return chosen

    def _judge(self, requests: Sequence[_Request]) -> Sequence[Judgement | Exception]:
        if len(requests) > 1:
            try:
                joined = self._run(requests[0].monitor, join([each.inputs for each in requests]))
                if _has_batch_axis(joined):
                    return split(joined, [each.size for each in requests])
            except Exception:
                log.info("a joint batch failed; its requests run one by one", exc_info=True)
        return [self._judge_alone(each) for each in requests]

    def _judge_alone(self, request: _Request) -> Judgement | Exception:
        starts = range(0, request.size, self._max_batch)
        try:
            slices = [
                self._run(request.monitor, _rows(request.inputs, start, start + self._max_batch))
                for start in starts
            ]
            return concatenate(slices)
        except Exception as error:  # noqa: BLE001  # the caller's future carries it on
            return error

    def _run(self, monitor: Monitor, inputs: Inputs) -> Judgement:
        judgement = monitor.judge(inputs)
        self._metrics.batch_ran(batch_size(inputs), judgement.stage_seconds)
        return judgement


def join(parts: Sequence[Inputs]) -> Inputs:
    """Concatenate inputs of one signature along the batch axis."""
    return {name: torch.cat([part[name] for part in parts], dim=0) for name in parts[0]}


def split(whole: Judgement, sizes: Sequence[int]) -> list[Judgement]:
    """Give each of the requests judged together its own rows."""
    assert _has_batch_axis(whole)
    parts = []
    start = 0
    for size in sizes:
        stop = start + size
        explanations = {
            row - start: kept for row, kept in whole.explanations.items() if start <= row < stop
        }
        outputs = {name: output[start:stop] for name, output in whole.outputs.items()}
        parts.append(
            Judgement(outputs, whole.verdicts[start:stop], explanations, whole.stage_seconds)
        )
        start = stop
    return parts


def concatenate(parts: Sequence[Judgement]) -> Judgement:
    """Join the judgements of consecutive slices of one request; one slice stays as it is.

    Raises InputError for several slices of outputs that have no batch axis to be joined along.
    """
    if len(parts) == 1:
        return parts[0]
    sizes = [len(part.verdicts) for part in parts]
    if not all(map(_has_batch_axis, parts)):
        raise InputError(
            f"the model's outputs {sorted(parts[0].outputs)} do not all have a batch axis; send "
            f"at most {sizes[0]} inputs a request"
        )
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    return Judgement(
        outputs={
            name: torch.cat([part.outputs[name] for part in parts], dim=0)
            for name in parts[0].outputs
        },
        verdicts=tuple(verdict for part in parts for verdict in part.verdicts),
        explanations={
            start + row: kept
            for start, part in zip(starts, parts, strict=True)
            for row, kept in part.explanations.items()
        },
        stage_seconds={
            stage: sum(part.stage_seconds[stage] for part in parts)
            for stage in parts[0].stage_seconds
        },
    )


def _has_batch_axis(judgement: Judgement) -> bool:
    count = len(judgement.verdicts)
    return all(output.shape[:1] == (count,) for output in judgement.outputs.values())


def _rows(inputs: Inputs, start: int, stop: int) -> Inputs:
    return {name: tensor[start:stop] for name, tensor in inputs.items()}
