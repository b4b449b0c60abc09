"""Checkpoints made by other libraries, with what those compute on real activations."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mad.components import formats
from mad.components.dictionaries.dictionary import Dictionary
from mad.errors import ConfigError
from mad.tensors import read_tensors

GOLDEN = Path(__file__).parent / "golden"
NEAR = 1e-5
OTHERS = ("saelens", "dictionary_learning", "sparsify", "openai")


@dataclass(frozen=True)
class Case:
    """A checkpoint of one format, for one site; ``reads`` is the site read, if it is another."""

    root: Path
    name: str
    format: str
    site: str
    reads: str

    @property
    def path(self) -> Path:
        """The directory, or the file where a format has but one."""
        directory = self.root / self.name
        return directory / "ae.pt" if self.format == "openai" else directory

    @property
    def vectors(self) -> dict[str, Tensor]:
        """Activations by site."""
        return read_tensors(self.root / "vectors.safetensors")

    @property
    def expected(self) -> dict[str, Tensor]:
        """The library's own latents and reconstruction of the vectors."""
        return read_tensors(self.root / self.name / "expected.safetensors")

    def read(self) -> Dictionary:
        """Read it; OpenAI's files do not say where they belong."""
        site = self.site if self.format == "openai" else ""
        return formats.read(self.path, self.format, site=site, pickles=True)


def cases(root: Path) -> list[Case]:
    """Return the checkpoints of a directory."""
    listed = json.loads((root / "cases.json").read_text())["cases"]
    return [Case(root=root, **case) for case in listed]


def computed(dictionary: Dictionary, vectors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what we compute, as the libraries give it: all latents, and the reconstruction."""
    activity = dictionary.activity(vectors)[dictionary.view]
    return {
        "latents": dictionary.latents(vectors).dense(dictionary.width),
        "reconstruction": activity.activation - activity.residual,
    }


def distance(some: dict[str, Tensor], others: dict[str, Tensor]) -> float:
    """Return the largest difference of any latent or coordinate."""
    assert some.keys() == others.keys()
    return max(float((some[name] - others[name]).abs().max()) for name in some)


def layouts_for(dictionary: Dictionary, directory: Path) -> dict[str, Path]:
    """Write a dictionary in every layout of another library that can hold it."""
    written = {}
    for name in OTHERS:
        path = directory / name / ("ae.pt" if name == "openai" else "h.0")
        try:
            formats.write(dictionary, path, name)
        except ConfigError:
            continue
        written[name] = path
    return written


def shares(dictionary: Dictionary, vectors: dict[str, Tensor]) -> Tensor:
    """Return what the components add up to: magnitudes times directions, of each vector."""
    activity = dictionary.activity(vectors)[dictionary.view]
    directions = dictionary.directions(dictionary.view, activity.components)
    total = torch.zeros_like(activity.residual)
    return total.index_add(0, activity.rows, activity.magnitudes[:, None] * directions)
