"""What an unfinished fit keeps on disk, so that after a kill the next one can go on.

DIRECTORY/checkpoint.json            how far each stage was, and what the fit was of
DIRECTORY/<32 digits>.safetensors    the sums of one site, or what was scored

A stage goes on at the row it had reached, from the very numbers it had, with batches that fall
where they would have: the baseline is the same, bit for bit. Checkpoints bound to anything else, or
damaged, are never used.
"""

import hashlib
import json
import math
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, TypeAlias, final

import torch

from mad import __version__, tensors
from mad.capture.model import MonitoredModel
from mad.components.base import Decomposition
from mad.errors import ConfigError
from mad.fit.plan import FitPlan
from mad.fit.written import read, written
from mad.types import Dataset

FORMAT = 1
INDEX = "checkpoint.json"

SAMPLED_ROWS = 64
"""Trusted inputs, evenly spaced, by which data are known to be the same."""

MOST_SHARE = 0.05
"""Share of its time that a fit spends on checkpoints at most, however large they are."""

Values: TypeAlias = Mapping[str, Any]
"""What a stage has found so far, by name: dataclasses and tensors, as ``mad.fit.written`` takes."""

Stage: TypeAlias = str

_MALFORMED: Final = (ValueError, KeyError, TypeError, AttributeError)


@final
@dataclass(frozen=True)
class Unfinished:
    """Where a fit keeps its checkpoints, and how often it writes one.

    ``what`` and ``setting`` are, in messages, what is unfinished, and what names the directory.
    """

    directory: Path
    every_s: float = 20.0
    clock: Callable[[], float] = time.monotonic
    what: str = "fit"
    setting: str = "baseline.store"

    def remove(self) -> None:
        """Forget the unfinished fit; ConfigError if it cannot be."""
        if self.directory.exists():
            try:
                shutil.rmtree(self.directory)
            except OSError as cause:
                raise self.unwritable(cause) from cause

    def unwritable(self, cause: OSError) -> ConfigError:
        """Say that a checkpoint cannot be written or removed, and what to do."""
        return ConfigError(
            f"cannot write the checkpoints of this {self.what} to {self.directory}: "
            f"{cause.strerror}; make room, or set {self.setting} to a directory that can be written"
        )


def identity(
    model: MonitoredModel, decomposition: Decomposition, data: Dataset, plan: FitPlan
) -> dict[str, str]:
    """Name everything a fit depends on, by the word for it in messages.

    Trusted data are told apart by their number and by the content of ``SAMPLED_ROWS`` of them.
    """
    return {
        **version_identity(),
        "settings": _sha256(json.dumps(asdict(plan), sort_keys=True).encode()),
        "model": model.fingerprint,
        "dictionaries": decomposition.fingerprint,
        "trusted data": data_identity(data),
    }


def version_identity() -> dict[str, str]:
    """Name the versions that arithmetic depends on."""
    return {"version of mad or torch": f"{__version__} {version('torch')} format {FORMAT}"}


def data_identity(data: Dataset) -> str:
    """Tell data apart, by their number and the content of ``SAMPLED_ROWS`` of them."""
    rows = torch.linspace(0, len(data) - 1, SAMPLED_ROWS, dtype=torch.float64).long().unique()
    return f"{len(data)} {tensors.digest(data.take(rows))}"


@final
@dataclass(frozen=True)
class Found:
    """What an earlier run left of a stage: nothing, with the reason if there should be more."""

    rows: int
    values: Values
    note: str = ""


@final
@dataclass
class Checkpoints:
    """Those an earlier run left, and those that this one writes: one of each stage.

    ``place`` None keeps nothing and finds nothing. ``refused`` says, once, why what was left cannot
    be used; ``due`` is when the next one is written.
    """

    place: Unfinished | None
    identity: Mapping[str, str]
    stages: dict[Stage, dict[str, Any]] = field(init=False, default_factory=dict)
    refused: str = field(init=False, default="")
    due: float = field(init=False, default=math.inf)

    def __post_init__(self) -> None:
        if self.place is not None:
            self.due = self.place.clock() + self.place.every_s
            self.stages, self.refused = _earlier(self.place, self.identity)

    def found(self, stage: Stage) -> Found:
        """Return how far an earlier run was, and what it had found; whatever is damaged is not."""
        note, self.refused = self.refused, ""
        if self.place is None or stage not in self.stages:
            return Found(0, {}, note)
        try:
            values = {
                name: _read_value(self.place.directory, row)
                for name, row in self.stages[stage]["values"].items()
            }
            return Found(self.stages[stage]["rows"], values)
        except (ConfigError, *_MALFORMED):
            del self.stages[stage]
            return Found(0, {}, f"starting over: {self.place.directory} is damaged")

    def offer(self, stage: Stage, rows: int, values: Values) -> None:
        """Write a checkpoint if one is due.

        Raises:
            ConfigError: it cannot be written.
        """
        self.offer_all(lambda: {stage: (rows, values)})

    def offer_all(self, stages: Callable[[], Mapping[Stage, tuple[int, Values]]]) -> None:
        """Write those of several stages that have gone on since they were written, if it is due.

        Raises:
            ConfigError: they cannot be written.
        """
        if self.place is None or self.place.clock() < self.due:
            return
        started = self.place.clock()
        try:
            self._write(self.place.directory, stages())
        except FileNotFoundError:
            # Another fit of this name has finished, and cleaned up: the next one is written anew.
            self.stages.clear()
        except OSError as cause:
            raise self.place.unwritable(cause) from cause
        ended = self.place.clock()
        self.due = ended + max(self.place.every_s, (ended - started) / MOST_SHARE)

    def _write(self, directory: Path, stages: Mapping[Stage, tuple[int, Values]]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for stage, (rows, values) in stages.items():
            if self.stages.get(stage, {}).get("rows") != rows:
                row = {name: _write_value(directory, value) for name, value in values.items()}
                self.stages[stage] = {"rows": rows, "values": row}
        index = {"format": FORMAT, "identity": dict(self.identity), "stages": self.stages}
        aside = directory / f"{uuid.uuid4().hex}.json"
        tensors.write_durably(aside, json.dumps({**index, "digest": _seal(index)}).encode())
        aside.replace(directory / INDEX)
        named = {row["file"] for one in self.stages.values() for row in one["values"].values()}
        for path in directory.iterdir():
            if path.name not in named | {INDEX}:
                path.unlink(missing_ok=True)


def _earlier(
    place: Unfinished, identity: Mapping[str, str]
) -> tuple[dict[Stage, dict[str, Any]], str]:
    """Return the stages of an earlier run, or none and why it cannot go on."""
    directory = place.directory
    if not (directory / INDEX).is_file():
        return {}, ""
    try:
        index = json.loads(tensors.read_bytes(directory / INDEX))
        seal = index.pop("digest")
        if index["format"] != FORMAT or seal != _seal(index):
            raise ValueError(seal)
        others = [name for name, own in identity.items() if index["identity"].get(name) != own]
    except (ConfigError, *_MALFORMED):
        return {}, f"starting over: {directory} is damaged"
    if others:
        return {}, f"starting over: the unfinished {place.what} was of other {', '.join(others)}"
    return index["stages"], ""


def _write_value(directory: Path, value: object) -> dict[str, Any]:
    row, arrays = written(value)
    content = tensors.serialise(arrays)
    file = f"{uuid.uuid4().hex}.safetensors"
    tensors.write_durably(directory / file, content)
    return {"file": file, "sha256": _sha256(content), "value": row}


def _read_value(directory: Path, row: Mapping[str, Any]) -> object:
    content = tensors.read_bytes(directory / row["file"])
    if _sha256(content) != row["sha256"]:
        raise ConfigError(f"{directory / row['file']} is truncated or was changed; remove it")
    return read(row["value"], tensors.parse_tensors(content, name=row["file"]))


def _seal(index: Mapping[str, object]) -> str:
    return _sha256(json.dumps(index, sort_keys=True).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
