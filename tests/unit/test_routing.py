"""The geometry of a router, on encoders whose geometry is known."""

import math

import pytest
import torch
from torch import Tensor

from mad.components.dictionaries.kinds.switch import SwitchEncoder
from mad.components.dictionaries.routing import (
    principal_cosines,
    repeated_share,
    router_agreement,
    router_geometry,
)


def switch(weight: Tensor, router: Tensor, *, always_on: bool = False) -> SwitchEncoder:
    return SwitchEncoder(
        weight=weight,
        bias=torch.zeros(weight.shape[1]),
        router=router,
        router_bias=torch.zeros(router.shape[1]),
        k=2,
        experts=router.shape[1] + always_on,
        active_experts=1,
        always_on=always_on,
    )


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def axes(*numbers: int, of: int) -> Tensor:
    return torch.eye(of)[list(numbers)]


def test_a_router_of_mean_encoder_rows_points_where_its_experts_do() -> None:
    weight = drawn(32, 40, seed=0) + 3 * drawn(32, 4, seed=1).repeat_interleave(10, dim=1)
    router = 7 * weight.unflatten(1, (4, 10)).mean(dim=2)
    found = router_geometry(switch(weight, router), rank=4)
    torch.testing.assert_close(found.own_cosine, torch.ones(4))
    assert (found.other_cosine.abs() < 0.5).all()
    assert (found.r_squared > 0.95).all()
    assert (found.angle_cosines > 0.95).all()


def test_a_random_router_is_no_nearer_than_chance() -> None:
    coordinates = 400
    one = switch(drawn(coordinates, 120, seed=2), drawn(coordinates, 3, seed=3))
    found = router_geometry(one, rank=100)
    assert found.r_squared_by_chance == 0.25
    assert found.angle_cosines_by_chance == pytest.approx(math.sqrt(3 / 400))
    torch.testing.assert_close(found.r_squared, torch.full((3,), 0.25), rtol=0, atol=0.1)
    by_chance = found.angle_cosines.square().mean().sqrt().item()
    assert by_chance == pytest.approx(math.sqrt(3 / 400), abs=0.04)
    assert found.own_cosine.abs().max() < 0.2


def test_the_share_inside_the_leading_directions_is_that_of_the_squares() -> None:
    weight = torch.cat([9 * axes(0, of=4), 5 * axes(1, of=4), 2 * axes(2, of=4), axes(3, of=4)]).T
    router = torch.stack([torch.tensor([3.0, 0.0, 4.0, 0.0]), torch.tensor([0.0, 1.0, 0.0, 0.0])])
    found = router_geometry(switch(weight, router.T), rank=2)
    torch.testing.assert_close(found.r_squared, torch.tensor([9 / 25, 1.0]))
    assert found.r_squared_by_chance == 0.5
    elsewhere = router_geometry(switch(weight, router.T), rank=1, dense=axes(2, of=4).T)
    torch.testing.assert_close(elsewhere.r_squared, torch.tensor([16 / 25, 0.0]))


def test_an_always_on_expert_has_no_row_to_compare() -> None:
    found = router_geometry(
        switch(drawn(8, 12, seed=4), drawn(8, 2, seed=5), always_on=True), rank=3
    )
    assert found.own_cosine.shape == found.r_squared.shape == (2,)


def test_principal_angles_are_those_between_lines_and_planes() -> None:
    angle = 0.3
    line = torch.tensor([[math.cos(angle), 0.0, math.sin(angle)]])
    plane = torch.tensor([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0]])
    torch.testing.assert_close(principal_cosines(line, plane), torch.tensor([math.cos(angle)]))
    torch.testing.assert_close(principal_cosines(plane, 5 * plane + plane.flip(0)), torch.ones(2))
    torch.testing.assert_close(principal_cosines(axes(0, of=3), axes(1, 2, of=3)), torch.zeros(1))


def test_rows_that_repeat_a_direction_span_no_more() -> None:
    twice = torch.tensor([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    assert principal_cosines(twice, torch.eye(3)).numel() == 1


def test_a_router_that_adds_up_its_experts_latents_always_agrees() -> None:
    weight = axes(0, 0, 1, 1, 2, 2, of=3).T.contiguous()
    vectors = drawn(2_500, 3, seed=6).abs()
    found = router_agreement(switch(weight, 2 * torch.eye(3)), vectors)
    assert found.share == 1.0
    assert found.by_chance == pytest.approx(1 / 3, abs=0.02)
    shifted = router_agreement(switch(weight, torch.eye(3).roll(1, dims=0)), vectors)
    assert shifted.share == 0.0


def test_directions_that_another_expert_has_are_repeated() -> None:
    close = torch.tensor([[0.95, math.sqrt(1 - 0.95**2), 0.0, 0.0]])
    decoder = torch.cat([axes(0, 0, 1, of=4), 3 * close, axes(2, 3, of=4)])
    assert repeated_share(decoder, 2) == 3 / 6
    assert repeated_share(decoder, 2, cosine=0.96) == 0.0
    # Those of one expert do not count.
    assert repeated_share(decoder, 1) == 0.0
