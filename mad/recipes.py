"""What settings say of a dictionary in, how it is trained out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Final

from mad.capture.model import MonitoredModel
from mad.capture.sites import resolve
from mad.components.dictionaries.attention.training import AttentionPlan
from mad.components.dictionaries.bilinear import BilinearPlan
from mad.components.dictionaries.plan import DictionaryPlan
from mad.config import Recipe
from mad.fit import Form, LayerPlan, Wanted
from mad.types import Site

_FORMS: Final[Mapping[str, Form]] = {"autoencoder": "autoencoder", "crosscoder": "crosscoder"}
"""What goes from a source to a site is a transcoder, of whatever kind."""


def wanted(model: MonitoredModel, recipe: Recipe, suffix: str, *, seed: int) -> Wanted:
    """Return the dictionaries that a recipe asks for; ``suffix`` names their views.

    Raises ConfigError for a pattern that names no site.
    """
    is_paired = bool(recipe.sources)
    sites = _in_order(model, recipe.sites) if is_paired else resolve(model.module, recipe.sites)
    is_bilinear = recipe.form == "bilinear"
    return Wanted(
        plan=_dictionary_plan(recipe, seed),
        sites=sites,
        form=_FORMS.get(recipe.form, "transcoder"),
        sources=tuple(f"{site}<" for site in sites)
        if is_bilinear
        else _in_order(model, recipe.sources),
        positions=recipe.positions,
        objective=recipe.objective,
        layer=_layer_plan(recipe, seed),
        suffix=suffix,
    )


def _layer_plan(recipe: Recipe, seed: int) -> LayerPlan | None:
    match recipe.form:
        case "attention":
            own = AttentionPlan(
                heads=recipe.heads,
                sparsity=recipe.sparsity,
                is_causal=recipe.causal,
                steps=recipe.steps,
                batch_size=recipe.batch_size,
                seed=seed,
            )
            rate = recipe.learning_rate
            return own if rate is None else replace(own, learning_rate=rate)
        case "bilinear":
            return BilinearPlan(
                left=recipe.left,
                right=recipe.right,
                out=recipe.out or None,
                k=recipe.k,
                rank=recipe.rank,
            )
        case _:
            return None


def _in_order(model: MonitoredModel, patterns: Sequence[str]) -> tuple[Site, ...]:
    """Resolve each pattern by itself, since pairs go by their places."""
    found = (resolve(model.module, [pattern]) for pattern in patterns)
    return tuple(chain.from_iterable(found))


def _dictionary_plan(recipe: Recipe, seed: int) -> DictionaryPlan:
    return DictionaryPlan(
        kind=recipe.kind,
        width=recipe.width,
        k=recipe.k,
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        pooling=recipe.pooling,
        search=recipe.search,
        initial=recipe.initial,
        dead=recipe.dead,
        p=recipe.p,
        prefixes=recipe.prefixes,
        experts=recipe.experts,
        active_experts=recipe.active_experts,
        always_on=recipe.always_on,
        resolution=recipe.resolution,
        skip=recipe.form == "skip_transcoder",
        meta_width=recipe.meta_width,
        meta_k=recipe.meta_k,
        meta_weight=recipe.meta_weight,
        seed=seed,
    )
