"""Train a TopK dictionary: vectors of one site in, dictionary and its figures out."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from mad.components.dictionaries.topk import TopKDictionary
from mad.components.pooling import Pooling
from mad.errors import ConfigError
from mad.types import Site, View

_PIECE = 1_024


@final
@dataclass(frozen=True, kw_only=True)
class DictionaryPlan:
    """How to train one dictionary; sizes are counts, the learning rate is Adam's.

    Latents that stayed silent for ``dead_after`` vectors are dead; the largest of them learn to
    explain what the others leave over, weighted by ``auxiliary_weight`` (Gao et al. 2024, A.2).
    With ``search``, a second dictionary is trained where another size describes much shorter.
    """

    width: int = 512
    k: int = 4
    steps: int = 1_000
    batch_size: int = 512
    learning_rate: float = 1e-3
    auxiliary_weight: float = 1 / 32
    dead_after: int = 25_000
    pooling: Pooling = "auto"
    search: bool = True
    seed: int = 0


@final
@dataclass(frozen=True)
class DictionaryFigures:
    """How well a dictionary explains the vectors of its view.

    Share of variance left over, mean active latents, and share of latents that are never active.
    """

    view: View
    unexplained_variance: float
    active_latents: float
    dead_share: float


def train_topk(
    site: Site,
    vectors: Float[Tensor, "vector coordinate"],
    plan: DictionaryPlan,
    *,
    step_done: Callable[[int, float], None],
    start: TopKDictionary | None = None,
) -> TopKDictionary:
    """Minimise squared error with Adam; the same plan and vectors give the same dictionary.

    ``step_done`` is told each step's number, from 1, and its share of unexplained variance. With
    ``start``, training goes on from that dictionary, with the plan's ``k``; its width stays.

    Raises:
        ConfigError: when there are too few vectors, they are all equal, or not finite.
    """
    dictionary = _initial(site, vectors, plan) if start is None else _copy(start, k=plan.k)
    trained = [dictionary.encoder, dictionary.bias, dictionary.decoder]
    for weight in trained:
        weight.requires_grad_(True)
    optimiser = torch.optim.Adam(trained, lr=plan.learning_rate, fused=True)
    # Full rate for most of the run, then linearly to zero: late noise is what keeps L2 high.
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, 5 * (1 - step / plan.steps))
    )
    silent_for = torch.zeros(dictionary.bias.numel(), dtype=torch.int64)
    generator = torch.Generator().manual_seed(plan.seed)
    for step in range(1, plan.steps + 1):
        rows = torch.randint(len(vectors), (plan.batch_size,), generator=generator)
        batch = (vectors[rows] - dictionary.centre) / dictionary.scale
        loss, unexplained = _loss(dictionary, batch, silent_for, plan)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            dictionary.decoder.div_(dictionary.decoder.norm(dim=1, keepdim=True).clamp_min(1e-8))
        step_done(step, unexplained)
    return replace(
        dictionary,
        encoder=dictionary.encoder.detach(),
        bias=dictionary.bias.detach(),
        decoder=dictionary.decoder.detach(),
    )


def figures(
    dictionary: TopKDictionary, vectors: Float[Tensor, "vector coordinate"]
) -> DictionaryFigures:
    """Measure a dictionary on pooled vectors of its view."""
    unexplained, uses = 0.0, torch.zeros(dictionary.bias.numel(), dtype=torch.int64)
    # In pieces: all vectors by all latents at once can be far larger than the vectors.
    for piece in vectors.split(_PIECE):
        activity = dictionary.activity({dictionary.site: piece})[dictionary.view]
        unexplained += float(activity.residual.square().sum())
        uses += activity.components.bincount(minlength=uses.numel())
    return DictionaryFigures(
        view=dictionary.view,
        unexplained_variance=unexplained / float((vectors - vectors.mean(dim=0)).square().sum()),
        active_latents=int(uses.sum()) / len(vectors),
        dead_share=int((uses == 0).sum()) / uses.numel(),
    )


def _copy(dictionary: TopKDictionary, *, k: int) -> TopKDictionary:
    """Return a dictionary with weights of its own, which training may change."""
    return replace(
        dictionary,
        k=k,
        encoder=dictionary.encoder.clone(),
        bias=dictionary.bias.clone(),
        decoder=dictionary.decoder.clone(),
    )


def _initial(
    site: Site, vectors: Float[Tensor, "vector coordinate"], plan: DictionaryPlan
) -> TopKDictionary:
    """Start the latents at data points, encoder tied to decoder but for one scale."""
    if len(vectors) < 2:  # noqa: PLR2004  # a spread needs two
        raise ConfigError(f"site {site!r}: {len(vectors)} vectors cannot train a dictionary")
    centre = vectors.mean(dim=0)
    scale = (vectors - centre).square().mean().sqrt()
    if not scale.isfinite():
        raise ConfigError(f"site {site!r} gives NaN or infinite numbers on trusted inputs")
    # Not by the scale: the mean of equal vectors may miss them in the last place.
    if (vectors == vectors[0]).all():
        raise ConfigError(f"site {site!r} gives the same vector for every trusted input; drop it")
    generator = torch.Generator().manual_seed(plan.seed)
    rows = torch.randint(len(vectors), (plan.width,), generator=generator)
    noise = torch.randn(plan.width, vectors.shape[1], generator=generator)
    directions = functional.normalize((vectors[rows] - centre) / scale, dim=1) + 0.1 * (
        functional.normalize(noise, dim=1)
    )
    decoder = functional.normalize(directions, dim=1)
    tied = TopKDictionary(
        site=site,
        pooling=plan.pooling,
        k=min(plan.k, plan.width),
        encoder=decoder.T.contiguous().clone(),
        bias=torch.zeros(plan.width),
        decoder=decoder,
        centre=centre,
        scale=scale,
    )
    rows = torch.randint(len(vectors), (_PIECE,), generator=generator)
    overshoot = _overshoot(tied, (vectors[rows] - centre) / scale)
    return replace(tied, encoder=tied.encoder / overshoot)


def _overshoot(
    dictionary: TopKDictionary, normalised: Float[Tensor, "batch coordinate"]
) -> Float[Tensor, ""]:
    """Return how many times too long the reconstruction is, by least squares.

    Directions that agree with an input also agree with each other, so the sum of k shares is too
    long: up to ten times, which is a hundred times the variance and hundreds of steps to undo.
    """
    explained = dictionary.explained(*dictionary.latents(normalised))
    fits = (normalised * explained).sum()
    return explained.square().sum() / fits if fits > 0 else torch.ones(())


def _loss(
    dictionary: TopKDictionary,
    batch: Float[Tensor, "batch coordinate"],
    silent_for: Int64[Tensor, " component"],
    plan: DictionaryPlan,
) -> tuple[Tensor, float]:
    """Return the loss and the share of variance left over; count how long latents are silent."""
    before = batch @ dictionary.encoder + dictionary.bias
    values, components = torch.topk(before, dictionary.k, dim=1)
    values = values.relu()
    error = batch - dictionary.explained(values, components)
    silent_for += len(batch)
    silent_for[components[values > 0]] = 0
    loss = error.square().sum(dim=1).mean() / batch.square().sum(dim=1).mean()
    unexplained = float(loss.detach())
    dead = (silent_for > plan.dead_after).nonzero().squeeze(1)
    if dead.numel():
        loss = loss + plan.auxiliary_weight * _revival(dictionary, before[:, dead], dead, error)
    return loss, unexplained


def _revival(
    dictionary: TopKDictionary,
    before: Float[Tensor, "batch dead"],
    dead: Int64[Tensor, " dead"],
    error: Float[Tensor, "batch coordinate"],
) -> Tensor:
    """How badly the dead latents explain what the living ones leave over."""
    target = error.detach()
    values, chosen = torch.topk(before, min(dead.numel(), 2 * dictionary.k), dim=1)
    explained = functional.embedding_bag(
        dead[chosen], dictionary.decoder, per_sample_weights=values.relu(), mode="sum"
    )
    return (target - explained).square().sum(dim=1).mean() / target.square().sum(dim=1).mean()
