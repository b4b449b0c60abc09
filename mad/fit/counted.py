"""Codes of active sets from counts of pairs alone, such as another library harvested.

A directory of ours has ``counts.safetensors``: by layer, how many inputs used both of two
components, and how many there were. An independent code is of the diagonal, a tree and the worst
pair of all; codes of clusters, of sizes or of neighbours need the sets themselves.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import torch

from mad import tensors
from mad.codes.base import SetCode
from mad.codes.sets.chow_liu import TreeCode
from mad.codes.sets.independent import IndependentCode
from mad.codes.sets.worst_pair import WorstPairCode
from mad.codes.statistics import PairCounts
from mad.errors import ConfigError
from mad.types import Site

_FILE: Final = "counts.safetensors"
_BOTH, _INPUTS = "both/", "inputs/"

FROM_PAIRS: Final[Mapping[str, Callable[[PairCounts], SetCode]]] = {
    "independent": lambda pairs: IndependentCode.fit(pairs.alone),
    "tree": TreeCode.counted,
    "worst_pair": WorstPairCode.counted,
}
"""Codes that counts of pairs suffice for, by the names that ``set_code`` has for them."""


def fit_counted(pairs: PairCounts, name: str) -> SetCode:
    """Fit a code from counts, without a model or an input.

    Raises:
        ConfigError: counts of pairs do not suffice for this code, or count nothing.
    """
    if name not in FROM_PAIRS:
        raise ConfigError(
            f"counts of pairs do not tell set_code {name!r}, which needs the sets themselves; they "
            f"tell {', '.join(FROM_PAIRS)}"
        )
    if not pairs.inputs:
        raise ConfigError("counts of no inputs tell no code; harvest some")
    return FROM_PAIRS[name](pairs)


def save_counts(directory: Path, counts: Mapping[Site, PairCounts]) -> None:
    """Write the counts of each layer.

    Raises:
        ConfigError: the directory cannot be written.
    """
    found = {f"{_BOTH}{layer}": one.both for layer, one in counts.items()}
    found |= {f"{_INPUTS}{layer}": torch.tensor(one.inputs) for layer, one in counts.items()}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tensors.write_durably(directory / _FILE, tensors.serialise(found))
    except OSError as cause:
        raise ConfigError(
            f"cannot write counts to {directory}: {cause.strerror}; make room, or name another "
            "directory"
        ) from cause


def load_counts(directory: Path) -> Mapping[Site, PairCounts]:
    """Read the counts of each layer.

    Raises:
        ConfigError: the file is missing, damaged, or of another layout.
    """
    path = directory / _FILE
    found = tensors.read_tensors(path)
    layers = [name.removeprefix(_BOTH) for name in found if name.startswith(_BOTH)]
    counts = {}
    for layer in layers:
        both, inputs = found[f"{_BOTH}{layer}"], found.get(f"{_INPUTS}{layer}")
        is_whole = inputs is not None and inputs.numel() == 1 and both.dtype == torch.int64
        if inputs is None or not is_whole or both.ndim != 2 or both.shape[0] != both.shape[1]:  # noqa: PLR2004  # a square
            raise ConfigError(f"{path} has no whole counts of {layer!r}; convert them again")
        counts[layer] = PairCounts(int(inputs), both)
    if not counts:
        raise ConfigError(f"{path} has counts of no layer; convert them again")
    return counts
