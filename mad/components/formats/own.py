"""Our own directory of dictionaries, one of which is read or written."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch

from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.files import load_dictionaries, save_dictionaries
from mad.components.formats.base import Place
from mad.errors import ConfigError


@final
@dataclass(frozen=True)
class Own:
    """What ``mad train dictionary`` writes and ``mad fit`` reads."""

    def read(self, path: Path, place: Place) -> Dictionary:
        """Read the dictionary of the view that the place names, or the only one there is."""
        parts = [part for part in load_dictionaries(path).parts if isinstance(part, Dictionary)]
        chosen = [part for part in parts if place.site in ("", part.view)]
        if len(chosen) != 1:
            views = ", ".join(part.view for part in parts)
            raise ConfigError(f"{path} has dictionaries of {views}; name one of them with --site")
        return chosen[0]

    def write(self, dictionary: Dictionary, path: Path) -> None:
        """Write a directory with one dictionary, of which no inputs seen are known."""
        save_dictionaries(path, [dictionary], seen=torch.zeros(0, dtype=torch.int64))
