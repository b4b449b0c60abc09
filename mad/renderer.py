"""What shows trusted inputs to people, as settings ask: the operator's function, on their data."""

from functools import partial
from pathlib import Path

from mad.arrays import open_dataset
from mad.baseline.store import BaselineStore
from mad.capture.loading import load_factory
from mad.config import Settings
from mad.errors import ConfigError
from mad.rendering.trusted import TrustedInputs


def trusted_inputs(settings: Settings) -> TrustedInputs | None:
    """Return what shows trusted inputs to people; None where the settings name no renderer.

    Runs the operator's factory; raises ConfigError if it fails.
    """
    wanted, store = settings.renderer, BaselineStore(settings.baseline.store)
    if wanted.factory is None:
        return None
    build = load_factory(wanted.factory, base=Path())  # a factory's file is absolute in settings
    try:
        render = build(**wanted.arguments, **wanted.files)
    except Exception as cause:
        given = {**wanted.arguments, **{name: str(path) for name, path in wanted.files.items()}}
        raise ConfigError(
            f"the renderer {wanted.factory} cannot be built of {given}: {cause!r}"
        ) from cause
    if not callable(render):
        raise ConfigError(
            f"{wanted.factory} returned {type(render).__name__}; a renderer is a function that "
            "takes one input and returns the bytes of a PNG, or text"
        )
    return TrustedInputs(
        render,
        partial(open_dataset, settings.data.trusted, names=settings.model.inputs),
        lambda name, version: store.load(name, version).trusted,
    )
