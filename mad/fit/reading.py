"""Read trusted data a batch at a time, and tell inputs apart by their content."""

import hashlib
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Int64
from torch import Tensor

from mad.capture.hooks import capture
from mad.capture.model import MonitoredModel
from mad.errors import ConfigError, MadError
from mad.fit.checkpoint import Checkpoints
from mad.types import Dataset, Inputs, Progress, Site


def batches(
    data: Dataset, rows: Int64[Tensor, " rows"], size: int, stage: str, progress: Progress
) -> Iterator[tuple[Int64[Tensor, " batch"], Inputs]]:
    """Read some rows, a batch at a time, and report how far it has come."""
    progress(stage, done=0, total=len(rows))
    done = 0
    for chosen in rows.split(size):
        yield chosen, data.take(chosen)
        done += len(chosen)
        progress(stage, done=done, total=len(rows))


@final
@dataclass(frozen=True)
class Reader:
    """Trusted data read in stages, each of which goes on where a kill interrupted it."""

    data: Dataset
    batch_size: int
    progress: Progress
    checkpoints: Checkpoints

    def batches(
        self, stage: str, rows: Int64[Tensor, " rows"], found: MutableMapping[str, Any]
    ) -> Iterator[tuple[Int64[Tensor, " batch"], Inputs]]:
        """Read some rows, a batch at a time; ``found`` is what the batches so far have come to.

        The loop that this feeds must leave in ``found`` all that it needs to go on: it is kept in
        checkpoints, and filled from one before the first batch that was not yet taken in.
        """
        earlier = self.checkpoints.found(stage)
        found.update(earlier.values)
        total = len(rows)
        note = f"resuming at row {earlier.rows} of {total}" if earlier.rows else earlier.note
        self.progress(stage, done=earlier.rows, total=total, note=note)
        for start in range(earlier.rows, total, self.batch_size):
            chosen = rows[start : start + self.batch_size]
            yield chosen, self.data.take(chosen)
            done = start + len(chosen)
            self.checkpoints.offer(stage, done, found)
            self.progress(stage, done=done, total=total, note=note)


def try_out(model: MonitoredModel, sites: Sequence[Site], data: Dataset) -> Inputs:
    """Run the model on the first trusted input, and return that input."""
    first = data.take(torch.tensor([0]))
    missing = sorted(set(model.inputs) - set(first))
    if missing:
        raise ConfigError(f"the trusted data have no {missing}; they hold {sorted(first)}")
    try:
        capture(model, sites, first)
    except MadError:
        raise
    except Exception as cause:
        given = {name: f"{first[name].dtype} {tuple(first[name].shape)}" for name in model.inputs}
        raise ConfigError(
            f"the model fails on the first trusted input, {given}: {cause}; give data of the types "
            "and shapes it takes, or change its factory"
        ) from cause
    return first


def row_digests(inputs: Inputs) -> Int64[Tensor, " batch"]:
    """Return 64 bits of a hash of each input's content."""
    rows = [
        tensor.reshape(tensor.shape[0], -1).contiguous().view(torch.uint8).numpy()
        for _, tensor in sorted(inputs.items())
    ]
    hashes = (
        hashlib.blake2b(b"".join(part.tobytes() for part in parts), digest_size=8).digest()
        for parts in zip(*rows, strict=True)
    )
    return torch.tensor([int.from_bytes(one, "big", signed=True) for one in hashes])
