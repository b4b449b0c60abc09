"""Dictionaries of other libraries, read and written: ``FORMATS`` has each by its name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mad.components.dictionaries.dictionary import Dictionary
from mad.components.formats.base import Format, Place
from mad.components.formats.dictionary_learning import DictionaryLearning
from mad.components.formats.gemma_scope import GemmaScope
from mad.components.formats.openai import OpenAI
from mad.components.formats.own import Own
from mad.components.formats.saelens import SAELens
from mad.components.formats.sparsify import Sparsify
from mad.components.pooling import Pooling
from mad.errors import ConfigError
from mad.types import Site

FORMATS: Final[Mapping[str, Format]] = {
    "mad": Own(),
    "saelens": SAELens(),
    "dictionary_learning": DictionaryLearning(),
    "sparsify": Sparsify(),
    "openai": OpenAI(),
    "gemma_scope": GemmaScope(),
}


def read(
    path: Path,
    format: str,  # noqa: A002  # what everybody calls it
    *,
    site: Site = "",
    reads: Site = "",
    pooling: Pooling = "last",
    pickles: bool = False,
) -> Dictionary:
    """Read one dictionary; ``Place`` says what the other arguments are.

    Raises:
        ConfigError: the format is unknown, a file is missing, damaged or of another layout, or
            a pickle where none are allowed; or nothing says where the dictionary belongs.
    """
    return _format(format).read(path, Place(site, reads, pooling, pickles))


def write(dictionary: Dictionary, path: Path, format: str) -> None:  # noqa: A002  # as in read
    """Write one dictionary.

    Raises:
        ConfigError: the format is unknown or cannot hold the dictionary, or the disk refuses.
    """
    _format(format).write(dictionary, path)


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise ConfigError(f"format {name!r} is none of {', '.join(FORMATS)}")
    return FORMATS[name]
