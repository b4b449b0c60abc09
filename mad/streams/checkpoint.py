"""A stream to a file and back, bound to the baseline it was ranked against.

A file is replaced as a whole, and holds what the stream had seen when it was written. So a crash
loses at most the inputs since the last checkpoint, and never leaves evidence of inputs unseen.
"""

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, final

import numpy as np
from jaxtyping import Float64
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from mad.errors import ConfigError
from mad.streams.bets import CELLS
from mad.streams.detector import ChangeDetector
from mad.streams.martingale import MixtureMartingale
from mad.streams.monitor import Alarm, Channel, Stream, StreamMonitor
from mad.tensors import read_bytes, write_durably


@final
@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A stream, and the ``owner`` whose monitor alone may go on with it."""

    owner: str
    stream: Stream


def owner(revision: str, monitor: StreamMonitor) -> str:
    """Name a baseline's revision and the reference values that its monitor keeps."""
    places = monitor.places
    sha = hashlib.sha256(places.edges.tobytes())
    sha.update(places.reference.tobytes())
    return f"{revision} {sha.hexdigest()[:16]}"


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Replace a file by this checkpoint.

    Raises:
        ConfigError: it cannot be written.
    """
    # Of this process alone: while servers take turns, two of them may write.
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        write_durably(unfinished, _File.of(checkpoint).model_dump_json().encode())
        unfinished.replace(path)
    except OSError as cause:
        raise ConfigError(
            f"cannot write the stream's checkpoint {path}: {cause.strerror}; make room, or set "
            "stream.checkpoint to a file that can be written"
        ) from cause


def load(path: Path) -> Checkpoint | None:
    """Read a checkpoint; None stands for a file that is not there.

    Raises:
        ConfigError: the file is damaged, or of a format this version does not know.
    """
    if not path.exists():
        return None
    try:
        return _File.model_validate_json(read_bytes(path)).checkpoint()
    except ValidationError as cause:
        first = cause.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigError(
            f"{path} is no stream checkpoint of format 1 ({where}: {first['msg']}); remove it to "
            "begin a new stream"
        ) from cause


def _log_sums(values: Sequence[float]) -> Sequence[float]:
    if any(math.isnan(value) or value == math.inf for value in values):
        raise ValueError("holds a number that is no logarithm of a sum")
    return values


_LogSums: TypeAlias = Annotated[
    tuple[float, ...], Field(min_length=CELLS, max_length=CELLS), AfterValidator(_log_sums)
]
_Count: TypeAlias = Annotated[int, Field(ge=0, strict=True)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


@final
class _Alarm(_Record):
    at_input: _Count
    time: AwareDatetime


@final
class _File(_Record):
    """What the file holds; the sums of bets nobody made yet are minus infinity."""

    format: Literal[1] = 1
    owner: str
    began: AwareDatetime
    seed: _Count
    inputs: _Count
    counts: tuple[_Count, ...]
    fast: _LogSums
    never_false: _LogSums
    alarms: dict[Channel, _Alarm]

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> "_File":
        """Return what is written of a checkpoint."""
        stream = checkpoint.stream
        return cls(
            owner=checkpoint.owner,
            began=stream.began,
            seed=stream.seed,
            inputs=stream.inputs,
            counts=tuple(stream.counts.tolist()),
            fast=tuple(stream.detector.log_sums.tolist()),
            never_false=tuple(stream.martingale.log_sums.tolist()),
            alarms={
                channel: _Alarm(at_input=alarm.at_input, time=alarm.time)
                for channel, alarm in stream.alarms.items()
            },
        )

    def checkpoint(self) -> Checkpoint:
        """Return the checkpoint that was written."""
        return Checkpoint(
            self.owner,
            Stream(
                began=self.began,
                seed=self.seed,
                inputs=self.inputs,
                counts=np.array(self.counts, dtype=np.int64),
                detector=ChangeDetector(_array(self.fast)),
                martingale=MixtureMartingale(_array(self.never_false), self.inputs),
                alarms={
                    channel: Alarm(alarm.at_input, alarm.time)
                    for channel, alarm in self.alarms.items()
                },
            ),
        )


def _array(values: Sequence[float]) -> Float64[np.ndarray, " cell"]:
    return np.array(values, dtype=np.float64)
