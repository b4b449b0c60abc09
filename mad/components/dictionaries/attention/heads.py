"""Attention heads that write one direction each, and a gate that says where each takes part.

Of sequences of normalised vectors, what each head carries to each position.
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@final
@dataclass(frozen=True)
class Heads:
    """Heads of rank one, each behind a gate (Mathwin, Akar and Sharkey 2024).

    A head attends by the softmax over keys of ``(q W_Q + b_Q)(k W_K + b_K)' / sqrt(narrow)`` and
    reads one number ``k w_V + b_V`` of each. Its gate lets a pair of positions through by
    ``clamp((q g_Q + c_Q)(k g_K + c_K), 0, 1)``, so that most heads are exactly silent in most
    places. What comes through is added up, and written along the head's row of ``output``; no more
    than its ``floor``, it is nothing.
    """

    query: Float[Tensor, "component source narrow"]
    query_bias: Float[Tensor, "component narrow"]
    key: Float[Tensor, "component source narrow"]
    key_bias: Float[Tensor, "component narrow"]
    gate_query: Float[Tensor, "component source"]
    gate_query_bias: Float[Tensor, " component"]
    gate_key: Float[Tensor, "component source"]
    gate_key_bias: Float[Tensor, " component"]
    value: Float[Tensor, "component source"]
    value_bias: Float[Tensor, " component"]
    output: Float[Tensor, "component target"]
    floor: Float[Tensor, " component"]

    @property
    def width(self) -> int:
        """The number of heads."""
        return self.value_bias.numel()

    def carried(
        self,
        queries: Float[Tensor, "batch query source"],
        keys: Float[Tensor, "batch key source"],
        visible: Bool[Tensor, "query key"],
    ) -> Float[Tensor, "batch query component"]:
        """Return what each head carries to each query; zero where its gates are closed."""
        through = self.gates(queries, keys) * self.attended(queries, keys, visible)
        total = through.sum(dim=3).transpose(1, 2)
        return torch.where(total.abs() > self.floor, total, 0.0)

    def gates(
        self,
        queries: Float[Tensor, "batch query source"],
        keys: Float[Tensor, "batch key source"],
    ) -> Float[Tensor, "batch component query key"]:
        """Return how far each pair of positions is let through, from 0 to 1."""
        asked = queries @ self.gate_query.T + self.gate_query_bias
        given = keys @ self.gate_key.T + self.gate_key_bias
        return torch.einsum("bqh,bkh->bhqk", asked, given).clamp(0, 1)

    def attended(
        self,
        queries: Float[Tensor, "batch query source"],
        keys: Float[Tensor, "batch key source"],
        visible: Bool[Tensor, "query key"],
    ) -> Float[Tensor, "batch component query key"]:
        """Return what each head would read of each visible position if its gate were open."""
        asked = torch.einsum("bqs,hsn->bhqn", queries, self.query) + self.query_bias[:, None]
        given = torch.einsum("bks,hsn->bhkn", keys, self.key) + self.key_bias[:, None]
        likeness = asked @ given.transpose(2, 3) / math.sqrt(self.query.shape[2])
        pattern = likeness.masked_fill(~visible, -torch.inf).softmax(dim=3)
        values = keys @ self.value.T + self.value_bias
        return pattern * values.transpose(1, 2).unsqueeze(2)


def visible_pairs(positions: int, *, is_causal: bool) -> Bool[Tensor, "query key"]:
    """Return which keys each query sees: all, or if it is causal, none that is later."""
    every = torch.ones(positions, positions, dtype=torch.bool)
    return every.tril() if is_causal else every
