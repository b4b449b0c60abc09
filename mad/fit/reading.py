"""Read trusted data a batch at a time, and tell inputs apart by their content."""

import hashlib
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from mad.capture.hooks import capture
from mad.capture.model import MonitoredModel
from mad.errors import ConfigError, MadError
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
