"""Train one dictionary on vectors in memory, and measure it."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.look import Examples, Look
from mad.components.dictionaries.plan import DictionaryFigures, DictionaryPlan
from mad.components.dictionaries.training import StepFigures, Training
from mad.types import Activations, Site

_PIECE = 1_024
CALIBRATED = 16_384
"""Vectors that a trained dictionary is calibrated on, at most."""

StepDone: TypeAlias = Callable[[int, StepFigures], None]


def train(
    look: Look,
    examples: Examples,
    plan: DictionaryPlan,
    *,
    step_done: StepDone,
    start: Dictionary | None = None,
    widths: tuple[int, ...] = (),
) -> Dictionary:
    """Train with Adam; the same plan and vectors give the same dictionary.

    ``step_done`` is told each step's number, from 1, and its figures. With ``start``, a TopK
    dictionary, training goes on from it, with the plan's ``k``; its width stays.

    Raises:
        ConfigError: when there are too few vectors, they are all equal, or not finite.
    """
    training = Training.begin(look, examples, plan, start=start, widths=widths)
    generator = torch.Generator().manual_seed(plan.seed)
    for step in range(1, plan.steps + 1):
        rows = torch.randint(len(examples), (plan.batch_size,), generator=generator)
        step_done(step, training.step(examples.take(rows)))
    return training.finish(examples.first(CALIBRATED))


def train_autoencoder(
    site: Site,
    vectors: Float[Tensor, "vector coordinate"],
    plan: DictionaryPlan,
    *,
    step_done: StepDone,
    start: Dictionary | None = None,
) -> Dictionary:
    """Train a dictionary of one site on pooled vectors of it, as ``train`` does."""
    look = Look.at(site, plan.pooling)
    return train(look, Examples.own(vectors), plan, step_done=step_done, start=start)


def figures(
    dictionary: Dictionary, vectors: Float[Tensor, "vector coordinate"]
) -> DictionaryFigures:
    """Measure a dictionary of one site on pooled vectors of it."""
    return measured(dictionary, Examples.own(vectors))


def measured(dictionary: Dictionary, examples: Examples) -> DictionaryFigures:
    """Measure a dictionary of one site, of several, or of another than it reads."""
    unexplained, active = 0.0, torch.zeros(dictionary.width, dtype=torch.int64)
    # In pieces: all vectors by all latents at once can be far larger than the vectors.
    for start in range(0, len(examples), _PIECE):
        piece = examples.take(torch.arange(start, min(start + _PIECE, len(examples))))
        activity = dictionary.activity(_as_captured(dictionary, piece))
        unexplained += sum(float(one.residual.square().sum()) for one in activity.values())
        components = activity[dictionary.view].components
        active += components.bincount(minlength=active.numel())
    target = examples.target
    return DictionaryFigures(
        view=dictionary.view,
        unexplained_variance=unexplained / float((target - target.mean(dim=0)).square().sum()),
        active_latents=int(active.sum()) / len(examples),
        dead_share=int((active == 0).sum()) / active.numel(),
    )


def _as_captured(dictionary: Dictionary, examples: Examples) -> Activations:
    """Return pooled examples as activations of the sites, for which no pooling is left to do."""
    look = dictionary.look
    explained = dict(zip(look.writes, examples.target.split(dictionary.widths, dim=1), strict=True))
    return explained if look.is_own else {look.reads[0]: examples.source} | explained
