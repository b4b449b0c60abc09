"""What the settings of a SAELens checkpoint mean: its versions, normalisation and hooks."""

from collections.abc import Mapping
from typing import Final

from mad.components.dictionaries.frame import RowNorm
from mad.components.formats.base import Place
from mad.components.formats.checkpoint import Settings
from mad.components.formats.hooks import module_of
from mad.errors import ConfigError

_SCALER = "activation_scaler.json"

_RENAMED: Final = {
    "hook_point": "hook_name",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}
_METADATA: Final = ("model_name", "hook_name", "hook_head_index")

ROWS: Final[Mapping[str, RowNorm]] = {
    "none": "none",
    "expected_average_only_in": "none",
    "layer_norm": "layer_norm",
    "constant_norm_rescale": "norm",
}
"""What SAELens calls what is done to each vector by itself."""


def current(settings: Settings) -> Settings:
    """Return settings as version 6 has them.

    Raises:
        ConfigError: the activation is none that SAELens still knows.
    """
    old = dict(settings.values)
    if "metadata" in old:
        return settings
    for was, now in _RENAMED.items():
        if was in old:
            old.setdefault(now, old[was])
    given = Settings(settings.path, old)
    architecture = given.text("architecture", "standard")
    activation, arguments = given.text("activation_fn", "relu"), given.inner("activation_fn_kwargs")
    if activation == "topk":
        old |= {"architecture": "topk", "k": arguments.count("k", given.count("k", 0))}
    elif activation != "relu":
        raise ConfigError(f"{settings.path}: activation {activation!r} is not relu or topk")
    else:
        old["architecture"] = architecture
    norm = old.get("normalize_activations")
    if norm is None or isinstance(norm, bool):
        old["normalize_activations"] = "expected_average_only_in" if norm else "none"
    if "hook_z" in given.text("hook_name", ""):
        old.setdefault("reshape_activations", "hook_z")
    metadata = {key: old[key] for key in _METADATA if key in old}
    return Settings(settings.path, old | {"metadata": metadata})


def is_transcoder(settings: Settings) -> bool:
    """Whether another site is read than is explained."""
    return "transcoder" in settings.text("architecture", "standard")


def hooks_of(settings: Settings, place: Place) -> tuple[str, str | None]:
    """Return the hook that is explained, and the one read instead, None for an autoencoder.

    Raises:
        ConfigError: the dictionary takes a part or a rearrangement of what the hook sees, no module
            is known to give that, and the operator has named none.
    """
    metadata = settings.inner("metadata")
    hook = metadata.text("hook_name", "")
    head = metadata.values.get("hook_head_index")
    model = metadata.text("model_name", "")
    needs = "" if head is None else f"head {head} alone"
    if settings.text("reshape_activations", "none") == "hook_z" and not module_of(hook, model):
        needs = needs or "all heads joined end to end"
    if needs and not place.site:
        raise ConfigError(
            f"{settings.path}: at {hook!r} the dictionary takes {needs}; name a module that gives "
            "them so with --site"
        )
    if is_transcoder(settings):
        return metadata.text("hook_name_out", ""), hook
    return hook, None


def factor_of(settings: Settings) -> float:
    """Return what vectors were multiplied by in training to bring them to an average length.

    Raises:
        ConfigError: they were, and no file says by how much.
    """
    if settings.text("normalize_activations", "none") != "expected_average_only_in":
        return 1.0
    path = settings.path.parent / _SCALER
    factor = Settings.read(path).values.get("scaling_factor") if path.is_file() else None
    if not isinstance(factor, float) or not factor > 0:
        raise ConfigError(
            f"{settings.path} says that vectors are scaled to an average length, and there is no "
            f"{_SCALER} beside it to say by how much: fold the factor in with SAELens, or set "
            "normalize_activations to none if the vectors are to be taken as they are"
        )
    return factor


def rows_of(settings: Settings) -> RowNorm:
    """Return what is done to each vector by itself, or raise ConfigError."""
    name = settings.text("normalize_activations", "none")
    if name not in ROWS:
        raise ConfigError(
            f"{settings.path}: normalize_activations {name!r} is none of {', '.join(ROWS)}; fold "
            "it in with SAELens"
        )
    return ROWS[name]
