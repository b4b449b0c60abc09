"""Matryoshka: the first latents must explain alone, with a few more, and with all.

Bussmann, Nabeshima, Karvonen and Nanda 2025, "Learning multi-level features with Matryoshka sparse
autoencoders". What is active is decided as in BatchTopK, over all latents at once.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from mad.components.dictionaries.base import Forward, Learned, Step
from mad.components.dictionaries.initial import Start
from mad.components.dictionaries.kinds.batch_topk import BatchTopKLearner
from mad.components.dictionaries.latents import Latents
from mad.components.dictionaries.look import Examples
from mad.components.dictionaries.missed import mean_squares
from mad.components.dictionaries.plan import DictionaryPlan


@final
@dataclass
class MatryoshkaLearner:
    """Trains a BatchTopK dictionary whose first latents are general and whose last are special.

    ``widths`` are how many latents each part has that must explain alone, ascending; the last is
    all of them.
    """

    whole: BatchTopKLearner
    widths: tuple[int, ...]

    @staticmethod
    def begin(start: Start, plan: DictionaryPlan) -> "MatryoshkaLearner":
        """Own the first weights."""
        width = start.bias.numel()
        shares = {math.ceil(share * width) for share in plan.prefixes}
        widths = sorted(part for part in shares if 0 < part < width)
        return MatryoshkaLearner(BatchTopKLearner.begin(start, plan), (*widths, width))

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """The weights."""
        return self.whole.parameters

    @property
    def buffers(self) -> Mapping[str, Tensor]:
        """The running threshold."""
        return self.whole.buffers

    @property
    def width(self) -> int:
        """The number of latents."""
        return self.whole.width

    def forward(self, source: Float[Tensor, "batch source"]) -> Forward:
        """Reconstruct from the largest latents of the batch."""
        return self.whole.forward(source)

    def penalty(self, forward: Forward, batch: Examples, step: Step) -> Float[Tensor, ""]:
        """Replace what all latents miss by the mean over parts; let the dead explain the error."""
        parts = explained_by_parts(forward.latents, self.whole.decoder, self.widths)
        lost = (batch.target.unsqueeze(1) - parts).square().sum(dim=2).mean(dim=0)
        missed = lost / mean_squares(batch.target)
        return missed.mean() - missed[-1] + self.whole.penalty(forward, batch, step)

    def stepped(self, forward: Forward) -> None:
        """Keep directions at unit length, and follow the threshold."""
        self.whole.stepped(forward)

    def finish(self, sample: Examples) -> Learned:
        """Return the weights, with the one threshold that k latents of the sample exceed."""
        return self.whole.finish(sample)


def explained_by_parts(
    latents: Latents, decoder: Float[Tensor, "component target"], widths: tuple[int, ...]
) -> Float[Tensor, "batch part target"]:
    """Return what the first latents of each vector add up to, for each number of first latents."""
    # Components ascend within a vector, so those between two widths lie side by side.
    part = torch.bucketize(latents.components, torch.tensor(widths), right=True)
    rows = torch.repeat_interleave(torch.arange(len(latents)), latents.offsets.diff())
    counts = (rows * len(widths) + part).bincount(minlength=len(latents) * len(widths))
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(dim=0)])
    between = Latents(offsets, latents.components, latents.values)
    return between.explained(decoder).view(len(latents), len(widths), -1).cumsum(dim=1)
