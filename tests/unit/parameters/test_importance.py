"""Importance functions: logits worked out by hand."""

import math

import torch

from mad.components.parameters.importance import (
    ScalarImportance,
    SharedImportance,
    VectorImportance,
)

GELU_OF_ONE = 0.5 * (1 + math.erf(1 / math.sqrt(2)))
"""Gaussian error linear unit at 1, by its definition."""


def test_a_scalar_network_sees_its_own_inner_activation() -> None:
    """One hidden unit a subcomponent: w_out gelu(w_in h + b_in) + b_out."""
    found = ScalarImportance(
        torch.tensor([[2.0], [1.0]]),
        torch.tensor([[0.0], [-1.0]]),
        torch.tensor([[3.0], [5.0]]),
        torch.tensor([0.5, 0.25]),
    ).logits(torch.tensor([[0.5, 2.0]]), None)
    torch.testing.assert_close(
        found, torch.tensor([[3 * GELU_OF_ONE + 0.5, 5 * GELU_OF_ONE + 0.25]])
    )


def test_a_vector_network_sees_the_whole_row() -> None:
    """Its own weights on every coordinate, at every position."""
    found = VectorImportance(
        torch.tensor([[[1.0], [1.0]]]),
        torch.tensor([[-2.0]]),
        torch.tensor([[2.0]]),
        torch.tensor([1.0]),
    ).logits(torch.zeros(1, 2, 1), torch.tensor([[[1.0, 2.0], [0.0, 2.0]]]))
    torch.testing.assert_close(found, torch.tensor([[[2 * GELU_OF_ONE + 1], [1.0]]]))


def test_a_shared_network_has_one_hidden_layer_for_all() -> None:
    """Subcomponents differ in the last weights alone."""
    found = SharedImportance(
        torch.tensor([[1.0], [0.0]]),
        torch.tensor([0.0]),
        torch.tensor([[1.0, -1.0]]),
        torch.tensor([0.0, 2.0]),
    ).logits(torch.zeros(1, 2), torch.tensor([[1.0, 7.0]]))
    torch.testing.assert_close(found, torch.tensor([[GELU_OF_ONE, 2 - GELU_OF_ONE]]))
