"""Triggered images differ from their originals by the trigger alone; shifted ones a little."""

import pytest
import torch
from hypothesis import given, strategies as st

from mad.demo.images import Labelled, Splits
from mad.demo.traffic import TARGET, TRIGGER_GREY, Traffic, divide, shift, trigger


@pytest.fixture(scope="module")
def fresh(splits: Splits) -> Labelled:
    return splits.fresh


@pytest.fixture(scope="module")
def traffic(fresh: Labelled) -> Traffic:
    return divide(fresh, seed=0)


@given(st.integers(0, 2**32 - 1))
def test_the_trigger_sets_five_pixels_of_the_corner_and_no_other(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (4, 28, 28), generator=generator).to(torch.uint8)
    stamped = trigger(images)
    corner = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 0, 1]], dtype=torch.bool)
    assert (stamped[:, 24:27, 24:27][:, corner] == TRIGGER_GREY).all()
    stamped[:, 24:27, 24:27] = torch.where(
        corner, images[:, 24:27, 24:27], stamped[:, 24:27, 24:27]
    )
    assert torch.equal(stamped, images)


def test_the_trigger_leaves_its_argument_alone(fresh: Labelled) -> None:
    before = fresh.images.clone()
    trigger(fresh.images)
    assert torch.equal(fresh.images, before)


def test_no_triggered_image_is_of_the_target_class(traffic: Traffic) -> None:
    assert (traffic.triggered.labels != TARGET).all()


def test_ordinary_images_are_fresh_images_unchanged(traffic: Traffic, fresh: Labelled) -> None:
    assert torch.equal(traffic.ordinary.images, fresh.images[:1_500])


def test_kinds_of_traffic_are_made_of_different_images(traffic: Traffic, fresh: Labelled) -> None:
    victims = fresh[1_500:2_250]
    originals = victims.images[victims.labels != TARGET]
    assert torch.equal(traffic.triggered.images, trigger(originals))
    assert torch.equal(traffic.shifted.labels, fresh.labels[2_250:])


def test_a_shift_changes_each_pixel_by_a_tenth_and_some_noise(fresh: Labelled) -> None:
    shifted = shift(fresh.images, generator=torch.Generator().manual_seed(1))
    change = (shifted.int() - fresh.images.int()).abs()
    # Noise of two grey levels passes six of its deviations once in 500 million draws.
    assert (change <= 0.08 * fresh.images + 12 + 1).all()
    assert (change > 0).double().mean() > 0.3


def test_the_same_seed_shifts_the_same_way(fresh: Labelled) -> None:
    one, other = divide(fresh, seed=5), divide(fresh, seed=5)
    assert torch.equal(one.shifted.images, other.shifted.images)
    assert not torch.equal(one.shifted.images, divide(fresh, seed=6).shifted.images)
