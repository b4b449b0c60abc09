"""What every exchange format promises: dictionaries from elsewhere, read; ours, written."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, final, runtime_checkable

from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.look import Look
from mad.components.formats.hooks import module_of
from mad.components.pooling import Pooling
from mad.errors import ConfigError
from mad.types import Site


@final
@dataclass(frozen=True)
class Place:
    """Where a dictionary is to be used; "" where the checkpoint is to say it.

    ``site`` is what it explains, and ``reads`` what a transcoder reads instead. Dictionaries of
    language models are trained on single positions, so ``last`` is the pooling they know.
    ``pickles`` allows formats that are pickles to be read, without running code.
    """

    site: Site = ""
    reads: Site = ""
    pooling: Pooling = "last"
    pickles: bool = False

    def look(self, path: Path, hook: str, model: str, *, reads: str | None = None) -> Look:
        """Return what to look at; ``hook``, ``reads`` and ``model`` are what the checkpoint says.

        ``reads`` is None for autoencoders.

        Raises:
            ConfigError: neither the checkpoint nor the operator says where the dictionary belongs.
        """
        site = self.site or _site(path, hook, model, "--site")
        if reads is None:
            return Look.at(site, self.pooling)
        return Look((self.reads or _site(path, reads, model, "--reads"),), (site,), self.pooling)


@runtime_checkable
class Format(Protocol):
    """A layout on disk, read and written.

    Law: on any vectors, latents and reconstruction are those of the library whose layout it is, to
    rounding; so they are in that library for what is written.
    """

    def read(self, path: Path, place: Place) -> Dictionary:
        """Read one dictionary; ConfigError names the file, the key and the remedy."""
        ...

    def write(self, dictionary: Dictionary, path: Path) -> None:
        """Write one dictionary; ConfigError where the layout cannot hold it, or the disk."""
        ...


def _site(path: Path, hook: str, model: str, option: str) -> Site:
    if not hook:
        raise ConfigError(
            f"{path} does not say at which site of the model the dictionary was trained; name it "
            f"with {option}"
        )
    return module_of(hook, model) or hook
