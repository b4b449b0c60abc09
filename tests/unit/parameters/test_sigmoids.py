"""The hard sigmoids: literal values and slopes."""

import torch

from mad.components.parameters.sigmoids import lower_leaky, upper_leaky

LOGITS = [-2.0, 0.25, 3.0]


def slopes(falls: bool) -> tuple[list[float], list[float]]:
    """Return values of the lower-leaky form, and its slopes where a loss falls or rises with it."""
    logits = torch.tensor(LOGITS, requires_grad=True)
    found = lower_leaky(logits)
    found.backward(torch.full((3,), -1.0 if falls else 1.0))
    assert logits.grad is not None
    return found.tolist(), logits.grad.tolist()


def test_masks_are_never_negative_and_only_rise_again() -> None:
    """Below zero a gradient leaks only where a larger logit would make the loss smaller."""
    values, falling = slopes(falls=True)
    assert values == [0.0, 0.25, 1.0]
    torch.testing.assert_close(torch.tensor(falling), torch.tensor([-0.01, -1.0, 0.0]))
    assert slopes(falls=False)[1] == [0.0, 1.0, 0.0]


def test_the_penalty_goes_on_above_one() -> None:
    """A hundredth of the slope, so that a saturated importance can fall again."""
    logits = torch.tensor(LOGITS, requires_grad=True)
    found = upper_leaky(logits)
    torch.testing.assert_close(found, torch.tensor([0.0, 0.25, 1.02]))
    found.sum().backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.tensor([0.0, 1.0, 0.01]))
