"""Thresholds in the place of scalar networks: solved by hand, and agreeing with the networks."""

import math

import torch

from mad.components.parameters.importance import ScalarImportance
from mad.components.parameters.intervals import Intervals


def networks(*rows: tuple[list[float], list[float], list[float], float]) -> ScalarImportance:
    """Return networks with the same number of hidden units each."""
    w_in, b_in, w_out, b_out = zip(*rows, strict=True)
    return ScalarImportance(*(torch.tensor(one) for one in (w_in, b_in, w_out, b_out)))


def test_a_crossing_is_where_the_unit_says() -> None:
    """Far from its bend a unit is its argument: 2 h - 8 exceeds 0.5 above 4.25."""
    rising = ([2.0, 0.0], [0.0, 0.0], [1.0, 0.0], -8.0)
    falling = ([-2.0, 0.0], [0.0, 0.0], [1.0, 0.0], -8.0)
    both = ([2.0, -2.0], [0.0, 0.0], [1.0, 1.0], -8.0)
    never = ([0.0, 0.0], [0.0, 0.0], [0.0, 0.0], 0.5)
    always = ([0.0, 0.0], [0.0, 0.0], [0.0, 0.0], 0.6)
    found = Intervals.solve(networks(rising, falling, both, never, always), threshold=0.5)
    assert found.odd.tolist() == []
    torch.testing.assert_close(
        found.low, torch.tensor([-math.inf, -4.25, -4.25, -math.inf, math.inf])
    )
    torch.testing.assert_close(found.high, torch.tensor([4.25, math.inf, 4.25, math.inf, math.inf]))
    at = torch.tensor([-5.0, -4.0, 4.0, 5.0]).unsqueeze(1).expand(4, 5)
    assert found.active(at).T.tolist() == [
        [False, False, False, True],
        [True, False, False, False],
        [True, False, False, True],
        [False] * 4,
        [True] * 4,
    ]


def test_what_is_active_between_two_crossings_is_told_by_its_edges() -> None:
    """A tent, 1 - |h| far out, exceeds 0.1 from -0.9 to 0.9, which two outer ends cannot say."""
    tent = ([8.0, -8.0], [0.0, 0.0], [-0.125, -0.125], 1.0)
    rising = ([2.0, 0.0], [0.0, 0.0], [1.0, 0.0], -8.0)
    found = Intervals.solve(networks(tent, rising), threshold=0.1)
    assert found.odd.tolist() == [0]
    torch.testing.assert_close(
        found.edges, torch.tensor([[-0.9, 0.9], [4.05, math.inf]]), atol=2e-3, rtol=0
    )
    at = torch.tensor([[-2.0, 0.0], [0.0, 5.0], [2.0, 4.0]])
    assert found.active(at).tolist() == [[False, False], [True, True], [False, False]]
    assert found.active(at.unsqueeze(1)).shape == (3, 1, 2)


def test_every_edge_of_a_network_counts() -> None:
    """A tent and a ramp beside it: up from -20, down from 0, up again from 20, less 10."""
    zigzag = ([64.0] * 3, [64.0 * 20, 0.0, -64.0 * 20], [1 / 64, -2 / 64, 2 / 64], -10.0)
    falling = ([-64.0] * 3, [64.0 * 20, 0.0, -64.0 * 20], [1 / 64, -2 / 64, 2 / 64], 10.0)
    found = Intervals.solve(networks(zigzag, falling), threshold=0.0)
    torch.testing.assert_close(found.edges[0], torch.tensor([-10.0, 10.0, 30.0]))
    assert found.odd.tolist() == [0]
    at = torch.tensor([-30.0, 0.0, 20.0, 40.0, math.nan])
    active = found.active(at.unsqueeze(1).expand(5, 2))
    assert active[:, 0].tolist() == [False, True, False, True, False]
    exact = networks(zigzag, falling).logits(at.unsqueeze(1).expand(5, 2), None) > 0.0
    assert torch.equal(active, exact)


def test_what_is_no_number_is_not_active() -> None:
    always = ([0.0], [0.0], [0.0], 1.0)
    found = Intervals.solve(networks(always), threshold=0.1)
    assert found.active(torch.tensor([[math.nan]])).tolist() == [[False]]


def test_thresholds_agree_with_any_networks() -> None:
    """At least 0.998 of decisions, on inputs ten times as wide as where networks bend."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    c, hidden = 300, 16
    random = ScalarImportance(drawn(c, hidden), drawn(c, hidden), drawn(c, hidden), drawn(c))
    for threshold in (0.0, 0.1, 0.5):
        found = Intervals.solve(random, threshold=threshold)
        inner = drawn(2_000, c) * torch.logspace(-2, 1, 2_000).unsqueeze(1)
        exact = random.logits(inner, None) > threshold
        assert (found.active(inner) == exact).float().mean() >= 0.9999
