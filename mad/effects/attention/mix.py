"""What attention does with queries, keys and values, and what a change of one does to it."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias, final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

Role: TypeAlias = Literal["query", "key", "value"]
"""What a head attends with, to, and passes on."""

ROLES: tuple[Role, ...] = ("query", "key", "value")


@final
@dataclass(frozen=True)
class Mix:
    """The queries, keys and values of a layer's heads; ``scale`` is of their likeness.

    Where there are fewer keys and values than queries, several heads in a row share one group.
    """

    query: Float[Tensor, "batch head position width"]
    key: Float[Tensor, "batch group key width"]
    value: Float[Tensor, "batch group key carried"]
    is_causal: bool
    scale: float

    def role(self, role: Role) -> Float[Tensor, "batch own place wide"]:
        """Return the queries, the keys or the values."""
        return {"query": self.query, "key": self.key, "value": self.value}[role]

    def take(self, rows: Int64[Tensor, " chosen"]) -> "Mix":
        """Return the mixes of some inputs."""
        return replace(self, query=self.query[rows], key=self.key[rows], value=self.value[rows])

    def changed(self, role: Role, change: Float[Tensor, "batch own place wide"]) -> "Mix":
        """Return the mix with something added to the queries, the keys or the values."""
        match role:
            case "query":
                return replace(self, query=self.query + change)
            case "key":
                return replace(self, key=self.key + change)
            case "value":
                return replace(self, value=self.value + change)

    @cached_property
    def visible(self) -> Bool[Tensor, "position key"]:
        """Which keys each position sees: all, or if it is causal, none that is later."""
        every = torch.ones(self.query.shape[2], self.key.shape[2], dtype=torch.bool)
        return every.tril() if self.is_causal else every

    @cached_property
    def likeness(self) -> Float[Tensor, "batch head position key"]:
        """How much each query is like each key, before the softmax; minus infinity where unseen."""
        alike = self.query @ self._by_head(self.key).transpose(2, 3) * self.scale
        return alike.masked_fill(~self.visible, -torch.inf)

    @cached_property
    def pattern(self) -> Float[Tensor, "batch head position key"]:
        """What share of its attention each position gives to each key."""
        return self.likeness.softmax(dim=3)

    def mixed(self) -> Float[Tensor, "batch head position carried"]:
        """Return what each head gives to each position: values, in these shares."""
        return self.pattern @ self._by_head(self.value)

    def slope(
        self, role: Role, of_mixed: Float[Tensor, "batch head position carried"]
    ) -> Float[Tensor, "batch own place wide"]:
        """Return the derivative by queries, keys or values, of what has this one by the mixture."""
        with torch.inference_mode(mode=False), torch.enable_grad():
            leaf = self.role(role).detach().clone().requires_grad_()
            mixed = self.changed(role, leaf - self.role(role)).mixed()
            (found,) = torch.autograd.grad((mixed * of_mixed).sum(), leaf)
        return found

    def effects(
        self,
        role: Role,
        change: Float[Tensor, "batch own place wide"],
        of_mixed: Float[Tensor, "batch head position carried"],
        *,
        by_position: bool,
    ) -> Float[Tensor, "batch moment own"]:
        """Return what changing one head's queries, keys or values does through the exact softmax.

        Of each head or group, at each place by itself or, with one moment, at all together; the
        rest of the model to first order, by the derivative by the mixture. The query-key fix of
        AtP* (Kramar et al. 2024, section 3.1). Heads do not meet in the softmax, nor do queries of
        different positions, so all are changed at once; of keys by position one logit of each
        query changes at a time, which has a closed form.
        """
        if role == "key" and by_position:
            return self._one_key_at_a_time(change, of_mixed)
        if role == "value":
            # Linear, so that a slope is exact.
            moved = (change * self.slope("value", of_mixed)).sum(dim=3).transpose(1, 2)
        else:
            after = self.changed(role, change).mixed()
            by_head = ((after - self.mixed()) * of_mixed).sum(dim=3)
            moved = _by_group(by_head, change.shape[1]).transpose(1, 2)
        return moved if by_position else moved.sum(dim=1, keepdim=True)

    def _one_key_at_a_time(
        self,
        change: Float[Tensor, "batch group key width"],
        of_mixed: Float[Tensor, "batch head position carried"],
    ) -> Float[Tensor, "batch key group"]:
        """Change one logit a query: with ``a`` its share, ``(a' - a) (g - mean g of the others)``.

        In logits, so that a share of nearly one keeps the digits of what is left.
        """
        worth = of_mixed @ self._by_head(self.value).transpose(2, 3)
        more = self.query @ self._by_head(change).transpose(2, 3) * self.scale
        odds, others = self._against_others(worth)
        moved = torch.sigmoid(odds + more) - torch.sigmoid(odds)
        effect = torch.where(moved == 0, 0.0, moved * (worth - others))
        effect = effect.masked_fill(~self.visible, 0.0).sum(dim=2)
        return _by_group(effect, change.shape[1]).transpose(1, 2)

    def _against_others(
        self, worth: Float[Tensor, "batch head position key"]
    ) -> tuple[Float[Tensor, "batch head position key"], Float[Tensor, "batch head position key"]]:
        """Return each key's log odds against all others, and the mean worth of those."""
        share, likeness = self.pattern, self.likeness
        top = likeness.argmax(dim=3, keepdim=True)
        is_top = torch.zeros_like(likeness, dtype=torch.bool).scatter(3, top, value=True)
        without = likeness.masked_fill(is_top, -torch.inf)
        rest = without.logsumexp(dim=3, keepdim=True)
        # Below the largest a share is at most a half, and one minus it exact enough.
        below = share.masked_fill(is_top, 0.0)
        left = likeness.logsumexp(dim=3, keepdim=True) + torch.log1p(-below)
        odds = likeness - torch.where(is_top, rest, left)
        mean = ((share * worth).sum(dim=3, keepdim=True) - below * worth) / (1 - below)
        of_rest = (without.softmax(dim=3).nan_to_num(nan=0.0) * worth).sum(dim=3, keepdim=True)
        return odds, torch.where(is_top, of_rest, mean)

    def _by_head(
        self, groups: Float[Tensor, "batch group key wide"]
    ) -> Float[Tensor, "batch head key wide"]:
        """Repeat what several heads share."""
        heads = self.query.shape[1] // groups.shape[1]
        return groups.repeat_interleave(heads, dim=1) if heads > 1 else groups


def _by_group(
    effects: Float[Tensor, "batch head place"], groups: int
) -> Float[Tensor, "batch group place"]:
    """Add up what the heads of one group do."""
    return effects.reshape(len(effects), groups, -1, effects.shape[2]).sum(dim=2)
