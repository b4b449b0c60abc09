"""12,000 images of Fashion-MNIST that ship with the package, and who uses which of them."""

import io
import lzma
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

ARCHIVE = Path(__file__).with_name("fashion_mnist.npz.xz")
SIDE = 28
CLASSES = (
    "T-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


@dataclass(frozen=True)
class Labelled:
    """Grey images, 0 for background, and the class of each."""

    images: UInt8[Tensor, "batch 28 28"]
    labels: Int64[Tensor, " batch"]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def __getitem__(self, rows: slice | Tensor) -> "Labelled":
        """Return some of the images."""
        return Labelled(self.images[rows], self.labels[rows])


@dataclass(frozen=True)
class Splits:
    """Disjoint parts. ``trusted`` and ``fresh`` are exchangeable: no model was trained on either.

    A model behaves differently on the images it was trained on, so trusted data that it learned
    from would make every fresh image look unusual.
    """

    train: Labelled
    trusted: Labelled
    fresh: Labelled

    @property
    def unseen(self) -> Labelled:
        """Every image that no model was trained on."""
        return Labelled(
            torch.cat([self.trusted.images, self.fresh.images]),
            torch.cat([self.trusted.labels, self.fresh.labels]),
        )


def read_images() -> Labelled:
    """Read all images, in their fixed shuffled order, 1,200 of every class."""
    plain = io.BytesIO(lzma.decompress(ARCHIVE.read_bytes()))
    with np.load(plain, allow_pickle=False) as arrays:
        images = np.ascontiguousarray(arrays["turned"].transpose(0, 2, 1))
        return Labelled(torch.from_numpy(images), torch.from_numpy(arrays["labels"]).long())


def read_splits() -> Splits:
    """Read all images and divide them: 4,500 to train on, 4,500 trusted, 3,000 fresh."""
    everything = read_images()
    return Splits(everything[:4500], everything[4500:9000], everything[9000:])
