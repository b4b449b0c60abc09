"""Networks of importance in the form for compilers are those of the formulas."""

import torch
from torch import Tensor
from torch.nn import functional

from mad.components.parameters.training import layout
from mad.components.parameters.training.gelu import gelu, slope
from mad.components.parameters.training.networks import logits

NUMBERS = torch.linspace(-20.0, 20.0, 40_001)
MASS = 0.5 * torch.special.erfc(-NUMBERS.double() / 2**0.5)
DENSITY = torch.exp(-0.5 * NUMBERS.double().square()) / (2 * torch.pi) ** 0.5


def test_units_are_as_near_to_the_error_function_as_torchs_own() -> None:
    wanted = NUMBERS.double() * MASS
    near = NUMBERS.abs() < 5.25  # where polynomials end
    missed = (gelu(NUMBERS).double() - wanted).abs()
    torchs = (functional.gelu(NUMBERS).double() - wanted).abs()
    assert missed[near].max() < torchs[near].max()
    assert (missed / NUMBERS.abs().double().clamp_min(1.0)).max() < 2e-7


def test_slopes_are_those_of_the_error_function() -> None:
    missed = (slope(NUMBERS).double() - (MASS + NUMBERS.double() * DENSITY)).abs()
    assert missed.max() < 3e-6


def test_gradients_by_hand_are_those_that_autograd_records() -> None:
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    inner, above = drawn(7, 50), drawn(7, 50).detach()
    weights = [drawn(7, 4) for _ in range(3)]
    leaves = [inner, *weights]
    w_in, b_in, w_out = (one.unsqueeze(-1) for one in weights)
    plain = (functional.gelu(inner.unsqueeze(1) * w_in + b_in) * w_out).sum(dim=1)
    found = logits(inner, *weights)
    torch.testing.assert_close(found, plain, atol=1e-5, rtol=1e-5)
    wanted = torch.autograd.grad(plain, leaves, above)
    for one, other in zip(torch.autograd.grad(found, leaves, above), wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5)


def test_hidden_units_are_apart_in_memory_and_otherwise_the_same() -> None:
    weights = torch.arange(6.0).reshape(3, 2)
    laid_out = layout.hidden_first(weights)
    assert torch.equal(laid_out, weights)
    assert laid_out.stride() == (1, 3)
