"""Dictionaries changed in one place, for tests."""

from dataclasses import replace

from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.kinds.topk import TopKEncoder
from mad.components.dictionaries.look import Look
from mad.components.pooling import Pooling
from mad.types import Site


def looking(
    dictionary: Dictionary,
    *,
    site: Site | None = None,
    pooling: Pooling | None = None,
    suffix: str | None = None,
) -> Dictionary:
    """Return the dictionary of one site with another look at it."""
    own = dictionary.look
    return replace(
        dictionary,
        look=Look.at(
            site or own.reads[0],
            pooling or own.pooling,
            own.suffix if suffix is None else suffix,
        ),
    )


def active_of(dictionary: Dictionary) -> int:
    """Return how many latents of a TopK dictionary may be active."""
    assert isinstance(dictionary.encoder, TopKEncoder)
    return dictionary.encoder.k


def with_active(dictionary: Dictionary, k: int) -> Dictionary:
    """Return a TopK dictionary with another number of active latents."""
    assert isinstance(dictionary.encoder, TopKEncoder)
    return replace(dictionary, encoder=replace(dictionary.encoder, k=k))
