"""A directory of a decomposition of any sort: which sort it is, and which inputs it has seen."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, TypeAlias

from jaxtyping import Int64
from torch import Tensor, nn

from mad.components.base import Decomposition
from mad.components.dictionaries import files as dictionaries
from mad.components.parameters import files as parameters
from mad.components.parameters.apd import files as attributions
from mad.components.parameters.masked import with_masked_output
from mad.errors import ConfigError

Sort: TypeAlias = Literal["dictionaries", "parameters", "attributions"]

INDEXES: Final[Mapping[Sort, str]] = {
    "dictionaries": dictionaries.INDEX,
    "parameters": parameters.INDEX,
    "attributions": attributions.INDEX,
}
"""The file that says what else a directory has; the last to be written."""


def load_decomposition(directory: Path, model: nn.Module) -> Decomposition:
    """Read dictionaries, or the pieces of a model's weights, whichever a directory has.

    Pieces are as they were read out last; the ``model`` is the one that is watched.

    Raises:
        ConfigError: it has neither or both, or what it has is damaged.
    """
    match _sort(directory):
        case "parameters":
            pieces = parameters.load_parameters(directory)
            return with_masked_output(pieces, model, parameters.load_masked_output(directory))
        case "attributions":
            return attributions.load_components(directory, model).beside(model)
        case "dictionaries":
            return dictionaries.load_dictionaries(directory)


def load_seen(directory: Path) -> Int64[Tensor, " seen"]:
    """Read the digests of the inputs that trained what a directory has; ConfigError likewise."""
    match _sort(directory):
        case "parameters":
            return parameters.load_seen(directory)
        case "attributions":
            return attributions.load_seen(directory)
        case "dictionaries":
            return dictionaries.load_seen(directory)


def has(directory: Path, sort: Sort) -> bool:
    """Whether a directory has components of this sort.

    Raises:
        ConfigError: it has those of another, so that none of this one should be written there.
    """
    for other, index in INDEXES.items():
        if other != sort and (directory / index).is_file():
            raise ConfigError(
                f"{directory} has {other}, by its {index}, and the settings ask for {sort}: name "
                "another directory as decomposition.path, or change what is asked for"
            )
    return (directory / INDEXES[sort]).is_file()


def _sort(directory: Path) -> Sort:
    found = [sort for sort, index in INDEXES.items() if (directory / index).is_file()]
    if len(found) > 1:
        raise ConfigError(
            f"{directory} has {' and '.join(found)}, so nobody knows which to read: move one sort "
            "to a directory of its own"
        )
    return found[0] if found else "dictionaries"
