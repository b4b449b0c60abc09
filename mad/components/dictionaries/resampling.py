"""Dead latents begun anew at vectors that are badly explained.

Bricken et al. 2023, "Towards monosemanticity", appendix on neuron resampling.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from mad.components.dictionaries.base import Forward, Learner
from mad.components.dictionaries.look import Examples
from mad.components.dictionaries.plan import DictionaryPlan

_UNTIL = 0.75
"""The share of training after which none is begun anew, since it could not settle."""


def is_due(plan: DictionaryPlan, steps_done: int) -> bool:
    """Say whether dead latents are begun anew after this step: as often as one can die."""
    if plan.dead != "resample" or steps_done > _UNTIL * plan.steps:
        return False
    return steps_done % max(1, plan.dead_after // plan.batch_size) == 0


def draw(forward: Forward, batch: Examples, most: int, *, generator: torch.Generator) -> Examples:
    """Draw different vectors of a batch, each with a chance in proportion to its squared loss."""
    loss = (batch.target - forward.explained).detach().square().sum(dim=1).double()
    # Nothing is left of vectors explained exactly, which may be drawn only for want of others.
    chance = (loss / loss.amax()).nan_to_num(1.0).square().clamp_min(1e-30)
    return batch.take(torch.multinomial(chance, min(most, len(batch)), generator=generator))


def begin_anew(
    learner: Learner,
    moments: Mapping[Tensor, Mapping[str, Tensor]],
    dead: Int64[Tensor, " dead"],
    drawn: Examples,
) -> Int64[Tensor, " begun"]:
    """Set dead latents to as many vectors, and return which were set.

    Each reads the source of its vector and writes the target, as strongly as the living do on
    average, and its biases and thresholds are the mean of theirs. What the optimiser remembers of
    it is forgotten.
    """
    # The paper's fifth of the length and no bias is for a fixed penalty: where a number of latents
    # is kept active, it never wins a place, or all that it opens at once upsets the steering.
    begun = dead[: len(drawn)]
    living = torch.ones(learner.width, dtype=torch.bool)
    living[dead] = len(dead) == learner.width
    with torch.no_grad():
        for name, one in learner.parameters.items():
            if name.startswith("encoder"):
                one[..., begun] = _first(one, living, drawn.source)
            elif name.startswith("decoder"):
                one[begun] = _first(one.T, living, drawn.target).T
            else:
                continue
            for kept in moments.get(one, {}).values():
                # The optimiser's count of steps is of the whole parameter.
                if kept.shape == one.shape:
                    (kept.T if name.startswith("decoder") else kept)[..., begun] = 0.0
    return begun


def _first(
    weights: Float[Tensor, "... component"],
    living: Bool[Tensor, " component"],
    vectors: Float[Tensor, "vector coordinate"],
) -> Float[Tensor, "..."]:
    """Return the directions of vectors, and else numbers, that are as the living have them."""
    if weights.ndim == 1:
        return weights[living].mean()
    lengths: Tensor = weights[:, living].norm(dim=0)
    return lengths.mean() * functional.normalize(vectors, dim=1).T
