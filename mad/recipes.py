"""What settings say of components, effects and a baseline in, how they come to be out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import chain
from typing import Final, TypedDict, final

from mad.capture.model import MonitoredModel
from mad.capture.sites import resolve
from mad.components.base import Decomposition
from mad.components.dictionaries.attention.training import AttentionPlan
from mad.components.dictionaries.bilinear import BilinearPlan
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.parameters.decomposition import ParameterDecomposition, PositionPooling
from mad.components.parameters.layers import matrix_layer
from mad.components.parameters.masked import with_masked_output
from mad.components.parameters.training.plan import Distance, LayerPlan as LayerParts, SpdPlan
from mad.config import AttentionLayers, Effects, Recipe, Settings
from mad.config.settings import Baseline
from mad.effects import Attention, LinearAttention, MultiheadAttention, Where
from mad.errors import ConfigError
from mad.fit import FitPlan, Form, LayerPlan, Wanted
from mad.promotion import Bounds
from mad.types import Site

_FORMS: Final[Mapping[str, Form]] = {"autoencoder": "autoencoder", "crosscoder": "crosscoder"}
"""What goes from a source to a site is a transcoder, of whatever kind."""


def all_wanted(model: MonitoredModel, settings: Settings) -> tuple[Wanted, ...]:
    """Return the dictionaries that settings ask for; ConfigError as ``wanted``."""
    asked = settings.decomposition
    return tuple(
        wanted(model, recipe, suffix, seed=settings.baseline.seed)
        for recipe, suffix in zip(asked.recipes, asked.suffixes, strict=True)
    )


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


def fit_plan(asked: Baseline) -> FitPlan:
    """Return how a baseline is fitted."""
    return FitPlan(
        name=asked.name,
        false_alarm_rate=asked.false_alarm_rate,
        reference_share=asked.reference_share,
        weighing_share=asked.weighing_share,
        alert_on=asked.alert_on,
        by_context=asked.by_context,
        set_code=asked.set_code,
        context=asked.context,
        activity=asked.activity,
        neighbours=asked.neighbours,
        magnitudes=asked.magnitudes,
        residual_by_context=asked.residual_by_context,
        seed=asked.seed,
    )


def bounds(settings: Settings) -> Bounds:
    """Return what a candidate is held against."""
    asked = settings.promotion
    return Bounds(
        max_canary_loss=asked.max_canary_loss,
        max_drift_bits=asked.max_drift_bits,
        max_quarantine_factor=asked.max_quarantine_factor,
        quarantine_rate=settings.fit.quarantine_rate,
    )


@final
class ReadOut(TypedDict):
    """How a parameter decomposition is read out, as its arguments."""

    threshold: float
    pooling: PositionPooling


def read_out(settings: Settings) -> ReadOut:
    """Return how the pieces of layers are read out."""
    asked = settings.decomposition.parameters
    assert asked is not None, "the settings ask for dictionaries"
    return ReadOut(threshold=asked.threshold, pooling=asked.pooling)


def as_asked(
    pieces: ParameterDecomposition, model: MonitoredModel, settings: Settings
) -> Decomposition:
    """Return the pieces of a model's layers read out as settings ask.

    Raises:
        ConfigError: they are of other weights than the model's.
    """
    pieces.check_model(model.module)
    read = replace(pieces, **read_out(settings))
    return with_masked_output(read, model.module, masked_output(settings))


def masked_output(settings: Settings) -> Distance | None:
    """Return how what the masked model answers is compared; None if it is not asked."""
    asked = settings.decomposition.parameters
    return asked.distance if asked is not None and asked.masked_output else None


def parameters_plan(model: MonitoredModel, settings: Settings) -> SpdPlan | None:
    """Return how the layers that settings name are taken apart; None if they name sites instead.

    Raises:
        ConfigError: a pattern names no layer, or none that can be taken apart; a layer has no
            number of components, or several; or a number is out of its range.
    """
    asked = settings.decomposition.parameters
    if asked is None:
        return None
    names = tuple(dict.fromkeys(chain(*(layers_of(model, pattern) for pattern in asked.layers))))
    is_smooth = asked.penalty == "smooth_l0"
    return SpdPlan(
        layers=tuple(LayerParts(name, _width(name, asked.components)) for name in names),
        ties=asked.ties,
        importance=asked.importance,
        hidden=asked.hidden,
        importance_coefficient=asked.sparsity,
        frequency_coefficient=asked.frequency,
        penalty=asked.penalty,
        p=asked.p,
        p_final=asked.p_final,
        gamma_final=0.01 if is_smooth else None,
        stochastic_coefficient=asked.stochastic,
        layerwise_coefficient=asked.layerwise,
        subset_coefficient=asked.subset,
        adversarial_coefficient=asked.adversarial,
        faithfulness_coefficient=asked.faithfulness,
        rate=asked.learning_rate,
        steps=asked.steps,
        batch_size=asked.batch_size,
        distance=asked.distance,
        seed=settings.baseline.seed,
    )


def layers_of(model: MonitoredModel, pattern: str) -> list[str]:
    """Return the layers that a pattern names: those that can be taken apart, of several."""
    if not {*pattern} & {*"*?["}:
        return [matrix_layer(model.module, pattern).name]
    found, reasons = [], []
    for name in resolve(model.module, [pattern]):
        try:
            found.append(matrix_layer(model.module, name).name)
        except ConfigError as error:
            reasons.append(str(error))
    if not found:
        raise ConfigError(f"layers {pattern!r} names none that can be taken apart: {reasons[0]}")
    return found


def _width(name: str, components: int | Mapping[str, int]) -> int:
    if isinstance(components, int):
        return components
    own = [pattern for pattern in components if fnmatchcase(name, pattern)]
    if len(own) != 1:
        raise ConfigError(
            f"layer {name!r} is named by {len(own)} patterns of decomposition.parameters."
            f"components, {list(components)}: let just one say how many it has"
        )
    return components[own[0]]


def where(model: MonitoredModel, effects: Effects) -> Where:
    """Return what helps to estimate effects; ConfigError for a pattern that names no layer."""
    attentions = [one for layers in effects.attention for one in _attentions(model, layers)]
    return Where(tuple(attentions), resolve(model.module, effects.branches))


def _attentions(model: MonitoredModel, layers: AttentionLayers) -> Iterator[Attention]:
    if layers.module:
        for name in resolve(model.module, [layers.module]):
            yield MultiheadAttention.of(model, name, is_causal=layers.causal)
        return
    assert layers.heads is not None, "settings have it with the linear layers"
    patterns = (layers.query, layers.key, layers.value, layers.out)
    found = [resolve(model.module, [pattern]) for pattern in patterns]
    if len({len(sites) for sites in found}) > 1:
        each = ", ".join(
            f"{len(sites)} by {pattern!r}" for pattern, sites in zip(patterns, found, strict=True)
        )
        raise ConfigError(
            f"effects.attention names not as many layers of each kind: {each}; patterns must match "
            "the layers of the same attentions, in the same order"
        )
    for query, key, value, out in zip(*found, strict=True):
        yield LinearAttention(
            query,
            key,
            value,
            out,
            heads=layers.heads,
            is_causal=layers.causal,
            scale=layers.scale,
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
