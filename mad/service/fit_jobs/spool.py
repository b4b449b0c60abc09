"""Trusted inputs on their way to disk: chunks in, a few large files and one digest out."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, final

import torch

from mad.errors import ConfigError
from mad.tensors import serialise, write_durably
from mad.types import Inputs, batch_size

SHARD_BYTES: Final = 8 * 1024**2
"""Chunks are gathered up to so many bytes: a million chunks must not be a million files."""


@final
class Spool:
    """What one stream has sent; each call may wait for the disk, and all are from one thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._sha = hashlib.sha256()
        self._waiting: list[Inputs] = []
        self._waiting_bytes = 0
        self._shards = 0
        self.inputs = 0
        self.num_bytes = 0

    @property
    def digest(self) -> str:
        """SHA-256 of the data of every tensor: chunk after chunk, by name within one."""
        return self._sha.hexdigest()

    def add(self, chunk: Inputs) -> None:
        """Take one chunk in; ConfigError if the disk refuses it."""
        for _, tensor in sorted(chunk.items()):
            self._sha.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
        size = sum(tensor.nbytes for tensor in chunk.values())
        self.inputs += batch_size(chunk)
        self.num_bytes += size
        self._waiting.append(chunk)
        self._waiting_bytes += size
        if self._waiting_bytes >= SHARD_BYTES:
            self._write()

    def finish(self) -> None:
        """Write what is left, so that everything is on disk; ConfigError if it cannot be."""
        if self._waiting:
            self._write()

    def _write(self) -> None:
        self._shards += 1
        path = self._directory / f"{self._shards:08d}.safetensors"
        try:
            write_durably(path, serialise(_joined(self._waiting)))
        except OSError as cause:
            raise ConfigError(
                f"cannot write trusted inputs to {self._directory.parent.parent}: "
                f"{cause.strerror}; make room, or set fit.directory to another disk"
            ) from cause
        self._waiting, self._waiting_bytes = [], 0


def _joined(chunks: Sequence[Inputs]) -> Inputs:
    return {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}
