"""Where activations come from: the model, run on trusted inputs, or files of what it computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, final, runtime_checkable

import torch
from jaxtyping import Int64
from torch import Tensor

from mad import tensors
from mad.arrays import open_dataset
from mad.capture.hooks import capture
from mad.capture.model import MonitoredModel
from mad.errors import ConfigError
from mad.fit.checkpoint import data_identity
from mad.fit.reading import row_digests, try_out
from mad.fit.training.shards import DIGEST, MODEL, files_in, model_digest
from mad.types import Activations, Dataset, Site

_DIGESTED: Final = 256


@runtime_checkable
class Source(Protocol):
    """Activations of inputs that are numbered from 0, and digests of the inputs' content."""

    def __len__(self) -> int:
        """Return the number of inputs."""
        ...

    @property
    def identity(self) -> Mapping[str, str]:
        """What the activations depend on, by the word for it in messages."""
        ...

    def read(self, numbers: Int64[Tensor, " batch"]) -> tuple[Activations, Int64[Tensor, " batch"]]:
        """Return activations and digests of some inputs; numbers are ascending."""
        ...

    def digests(self, numbers: Int64[Tensor, " some"]) -> Int64[Tensor, " some"]:
        """Return digests alone, which is quicker; numbers are ascending."""
        ...


@final
@dataclass(frozen=True)
class ModelSource:
    """The model at some sites, run on some rows of trusted data."""

    model: MonitoredModel
    sites: tuple[Site, ...]
    data: Dataset
    rows: Int64[Tensor, " fitting"]

    @staticmethod
    def of(
        model: MonitoredModel,
        sites: Sequence[Site],
        data: Dataset,
        rows: Int64[Tensor, " fitting"],
    ) -> "ModelSource":
        """Try the model out on the first input; ConfigError if it fails."""
        try_out(model, sites, data)
        return ModelSource(model, tuple(sites), data, rows)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    @property
    def identity(self) -> Mapping[str, str]:
        """The model, the data, and which of them are for fitting."""
        return {
            "model": self.model.fingerprint,
            "trusted data": data_identity(self.data),
            "split of the trusted data": tensors.digest({"rows": self.rows}),
        }

    def read(self, numbers: Int64[Tensor, " batch"]) -> tuple[Activations, Int64[Tensor, " batch"]]:
        """Run the model once on some inputs."""
        inputs = self.data.take(self.rows[numbers])
        return capture(self.model, self.sites, inputs).activations, row_digests(inputs)

    def digests(self, numbers: Int64[Tensor, " some"]) -> Int64[Tensor, " some"]:
        """Read some inputs without running the model."""
        pieces = self.rows[numbers].split(_DIGESTED)
        return torch.cat([row_digests(self.data.take(rows)) for rows in pieces])


@final
@dataclass(frozen=True)
class FileSource:
    """Files with an array of activations for each site, and digests of the inputs and model."""

    arrays: Dataset

    @staticmethod
    def open(paths: Sequence[Path], sites: Sequence[Site], model: MonitoredModel) -> "FileSource":
        """Open files, or all those of directories, of what a model computed at some sites.

        Raises:
            ConfigError: a file cannot be read, has no array for a site, does not say which inputs
                and which model its activations are of, or says that it is another model.
        """
        files = files_in(paths)
        names = set(open_dataset(files).take(torch.tensor([0])))
        if DIGEST not in names:
            raise ConfigError(
                f"{files[0]} has no array {DIGEST!r}, so nobody could say whether dictionaries "
                "trained on it have seen the reference: write activations with "
                "`mad train activations`, or add the digests"
            )
        if missing := sorted(set(sites) - names):
            raise ConfigError(
                f"{files[0]} has no activations of {', '.join(missing)}; it has those of "
                f"{', '.join(sorted(names - {DIGEST, MODEL}))}: write them again with "
                "`mad train activations`"
            )
        _check_model(files, names, model)
        return FileSource(open_dataset(files, names=[*sites, DIGEST]))

    def __len__(self) -> int:
        """Return the number of inputs."""
        return len(self.arrays)

    @property
    def identity(self) -> Mapping[str, str]:
        """The files' content."""
        return {"activations": data_identity(self.arrays)}

    def read(self, numbers: Int64[Tensor, " batch"]) -> tuple[Activations, Int64[Tensor, " batch"]]:
        """Read some rows."""
        arrays = dict(self.arrays.take(numbers))
        digests = arrays.pop(DIGEST)
        return arrays, digests

    def digests(self, numbers: Int64[Tensor, " some"]) -> Int64[Tensor, " some"]:
        """Read the digests of some rows."""
        return torch.cat([self.read(piece)[1] for piece in numbers.split(_DIGESTED)])


def _check_model(files: Sequence[Path], names: set[str], model: MonitoredModel) -> None:
    if MODEL not in names:
        raise ConfigError(
            f"{files[0]} has no array {MODEL!r}, so nobody could say which model its activations "
            "are of: write them with `mad train activations`"
        )
    marks = open_dataset(files, names=[MODEL])
    found = marks.take(torch.arange(len(marks)))[MODEL]
    others = found != model_digest(model)
    if others.any():
        raise ConfigError(
            f"{int(others.sum())} of {len(others)} rows of {files[0].parent} are activations of "
            f"another model than {model.name!r} as it is now: write them again with "
            "`mad train activations`, or set decomposition.activations to those of this model"
        )
