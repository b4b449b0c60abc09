"""Make the images that ship with the package from Fashion-MNIST's four original files.

Maintainers run this once: ``python -m mad.demo.make_subset /usr/share/datasets/fashion-mnist``
(where Debian's package ``dataset-fashion-mnist`` puts them). Nothing else reads the original files.
"""

import gzip
import io
import lzma
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mad.demo.images import ARCHIVE, CLASSES, SIDE

_TRAIN_PER_CLASS = 800
_TEST_PER_CLASS = 400
_SEED = 20170825  # the day Fashion-MNIST was published

Bytes = npt.NDArray[np.uint8]


def make_subset(folder: Path) -> tuple[Bytes, Bytes]:
    """Choose the same number of images of every class, in one fixed shuffled order.

    Returns images [12000, 28, 28] and labels [12000]. The original train and test parts are
    shuffled together, so that any two ranges of the result are exchangeable.
    """
    generator = np.random.default_rng(_SEED)
    images, labels = [], []
    for part, per_class in (("train", _TRAIN_PER_CLASS), ("t10k", _TEST_PER_CLASS)):
        part_images = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
        part_labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
        for label in range(len(CLASSES)):
            rows = generator.choice(
                np.flatnonzero(part_labels == label), size=per_class, replace=False
            )
            images.append(part_images[rows])
            labels.append(part_labels[rows])
    order = generator.permutation(sum(len(chosen) for chosen in labels))
    return np.concatenate(images)[order], np.concatenate(labels)[order]


def read_idx(path: Path) -> Bytes:
    """Read one file of unsigned bytes in the IDX format of LeCun, Cortes and Burges."""
    content = gzip.decompress(path.read_bytes())
    dimensions = content[3]
    shape = np.frombuffer(content, dtype=">u4", count=dimensions, offset=4)
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def write_subset(images: Bytes, labels: Bytes, path: Path) -> None:
    """Write the archive that ``mad.demo.images`` reads."""
    assert images.shape[1:] == (SIDE, SIDE)
    # Clothes are alike down their columns: turned images take 5 % fewer bytes.
    turned = np.ascontiguousarray(images.transpose(0, 2, 1))
    plain = io.BytesIO()
    np.savez(plain, turned=turned, labels=labels)
    path.write_bytes(lzma.compress(plain.getvalue(), preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    write_subset(*make_subset(Path(sys.argv[1])), ARCHIVE)
