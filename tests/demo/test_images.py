"""The images that ship with the package, and how they are divided."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from mad.demo import make_subset
from mad.demo.images import ARCHIVE, CLASSES, Labelled, Splits, read_images

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
# sha256sum of the labels and then the images, made from Debian's files.
DIGEST = "3f3cdab8494e0bc482f05ec2149d44ec1d92ba7ec0dbeb1c99e6e0f706f32901"


@pytest.fixture(scope="module")
def everything() -> Labelled:
    return read_images()


def rows(part: Labelled) -> set[bytes]:
    return {image.tobytes() for image in part.images.numpy()}


def test_the_archive_is_at_most_five_megabytes_with_its_licence_beside_it() -> None:
    assert ARCHIVE.stat().st_size <= 5_000_000
    assert "Zalando" in ARCHIVE.with_name("LICENSE").read_text()


def test_images_are_bytes_of_28_by_28_pixels(everything: Labelled) -> None:
    assert everything.images.dtype == torch.uint8
    assert everything.images.shape == (12_000, 28, 28)


def test_every_class_has_the_same_number_of_images(everything: Labelled) -> None:
    assert everything.labels.bincount().tolist() == [1_200] * len(CLASSES)


def test_the_shipped_images_are_those_of_the_recorded_digest(everything: Labelled) -> None:
    labels = everything.labels.to(torch.uint8).numpy().tobytes()
    digest = hashlib.sha256(labels + everything.images.numpy().tobytes()).hexdigest()
    assert digest == DIGEST


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_the_maintainers_script_makes_the_shipped_images_again(everything: Labelled) -> None:
    images, labels = make_subset.make_subset(DEBIAN)
    assert np.array_equal(images, everything.images.numpy())
    assert np.array_equal(labels, everything.labels.numpy())


def test_splits_share_no_image(splits: Splits) -> None:
    train, trusted, fresh = rows(splits.train), rows(splits.trusted), rows(splits.fresh)
    assert not train & trusted
    assert not train & fresh
    assert not trusted & fresh


def test_splits_use_every_image(splits: Splits, everything: Labelled) -> None:
    parts = [splits.train.images, splits.trusted.images, splits.fresh.images]
    assert torch.equal(torch.cat(parts), everything.images)


def test_no_model_was_trained_on_the_unseen_images(splits: Splits) -> None:
    assert rows(splits.unseen) == rows(splits.trusted) | rows(splits.fresh)
