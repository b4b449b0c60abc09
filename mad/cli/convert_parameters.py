"""``mad convert`` of parameter decompositions: spd to ours and back, apd to ours."""

from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

from mad.cli import screen
from mad.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from mad.components.formats.parameters.base import Imported
    from mad.components.parameters.decomposition import PositionPooling

FORMATS: Final = ("spd",)


def convert_parameters(  # noqa: PLR0913  # one option each
    source: Path,
    destination: Path,
    *,
    from_format: str,
    to_format: str,
    config: Path | None,
    threshold: float,
    pooling: str,
) -> None:
    """Convert one parameter decomposition, held against the monitored model where one is given."""
    from mad.components.formats.parameters import own, spd_written

    _check(from_format, to_format)
    model = _module(config) if config else None
    imported = _read(source, from_format, model)
    if to_format == "mad":
        own.write(imported, destination, threshold=threshold, pooling=_pooling(pooling))
    else:
        spd_written.write(imported, destination, model=_needed(model))
    for part in imported.parts:
        missed = imported.missed(part)
        left = "" if missed is None else f", which leave {100 * missed:.2g} % of its squares over"
        screen.say(f"{part.width} subcomponents of {part.layer.name}{left}")
    for one in imported.left_out:
        screen.say(f"left out {one}")
    screen.say(f"written to {destination}")
    if to_format == "mad" and from_format != "mad":
        screen.say(
            "what it was trained on is unknown: keep that out of the trusted data, or p-values "
            "will promise too much"
        )


def convert_components(
    source: Path, destination: Path, *, to_format: str, config: Path | None
) -> None:
    """Convert a checkpoint of ApolloResearch/apd, whose components are of a whole model."""
    from mad.components.formats.parameters import apd
    from mad.components.parameters.apd.files import Kept, save_components

    if to_format != "mad":
        raise ConfigError(f"components of a whole model can be written as mad, not as {to_format}")
    if config is None:
        raise ConfigError(
            "a checkpoint of ApolloResearch/apd does not say what model it decomposes: name its "
            "settings with --config"
        )
    import torch

    model = _module(config)
    found = apd.read(source, model, pickles=True)
    unseen = torch.zeros(0, dtype=torch.int64)
    save_components(destination, Kept(found.components, None, unseen), model)
    width = next(iter(found.components.values())).width
    screen.say(
        f"{width} components of {', '.join(found.components)}, which leave "
        f"{100 * found.missed:.2g} % of their squares over (instance {found.number} of "
        f"{found.count})"
    )
    screen.say(
        f"written to {destination}: name it as decomposition.path, and the layers in "
        "[decomposition.attributions]; `mad fit` takes thresholds from the trusted data. What the "
        "components were trained on is unknown: keep that out of the trusted data, or p-values "
        "will promise too much"
    )


def _check(from_format: str, to_format: str) -> None:
    for name in (from_format, to_format):
        if name not in (*FORMATS, "mad"):
            raise ConfigError(
                f"a parameter decomposition cannot be converted from {from_format} to {to_format}, "
                f"only between {', '.join((*FORMATS, 'mad'))}"
            )


def _read(source: Path, from_format: str, model: "nn.Module | None") -> "Imported":
    from mad.components.formats.parameters import own, spd
    from mad.components.formats.parameters.base import held_against

    if from_format == "mad":
        return own.read(source, _needed(model))
    imported = spd.read(source, pickles=True)
    return imported if model is None else held_against(imported, model)


def _module(config: Path) -> "nn.Module":
    from mad.deployment import Deployment

    return Deployment.load(config).model.module


def _needed(model: "nn.Module | None") -> "nn.Module":
    if model is None:
        raise ConfigError(
            "a run of goodfire-ai/spd holds the weights that it decomposes, and ours do not: name "
            "the settings of the monitored model with --config"
        )
    return model


def _pooling(name: str) -> "PositionPooling":
    from mad.components.parameters.decomposition import PositionPooling

    for one in get_args(PositionPooling):
        if one == name:
            return one  # type: ignore[no-any-return]  # get_args is untyped
    raise ConfigError(
        f"pooling {name!r} is none of {', '.join(get_args(PositionPooling))}, which are those of "
        "parameter decompositions"
    )
