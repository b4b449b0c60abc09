"""goodfire-ai/spd's harvest, ``component_correlations.pt``: how often components fire, in pairs.

A count is of positions, each of which is one input here: where inputs have positions, that is the
use of ``last``. Pairs of components of different layers are left out, as layers are views of their
own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import torch
from jaxtyping import Int64
from torch import Tensor

from mad.components.formats.pickles import tensors_of, unpickled
from mad.errors import ConfigError
from mad.types import Site

EXACT: Final = 1 << 24
"""The library adds counts up in single precision, which is exact below this."""


@final
@dataclass(frozen=True)
class Harvested:
    """Over so many positions, in how many both of two components of a layer fired.

    The diagonal says in how many one did. ``is_exact`` is whether all counts are below ``EXACT``.
    """

    positions: int
    both: Int64[Tensor, "component component"]

    @property
    def is_exact(self) -> bool:
        """Whether no count was lost to single precision."""
        return bool((self.both < EXACT).all())


def read(path: Path, *, pickles: bool) -> Mapping[Site, Harvested]:
    """Read the counts of each layer.

    Raises:
        ConfigError: the file is missing, damaged, or its counts contradict each other; or pickles
            are not allowed.
    """
    state = unpickled(path, allowed=pickles)
    keys, total = state.get("component_keys"), state.get("count_total")
    counts = tensors_of(path, state)
    size = len(keys) if isinstance(keys, list) else -1
    both, single = counts.get("count_ij"), counts.get("count_i")
    if (
        both is None
        or single is None
        or not isinstance(total, int)
        or tuple(both.shape) != (size, size)
        or tuple(single.shape) != (size,)
    ):
        raise ConfigError(
            f"{path} is no component_correlations.pt: it has {_shapes(state)}, and needs "
            "component_keys, count_i, count_ij of as many rows and columns, and count_total; name "
            "another file, or harvest again"
        )
    both, single = both.long(), single.long()
    _check(path, both, single, total)
    return {
        layer: Harvested(total, both[places][:, places].contiguous())
        for layer, places in _places(path, [str(key) for key in keys or ()]).items()
    }


def _check(path: Path, both: Tensor, single: Tensor, total: int) -> None:
    own = both.diagonal()
    least = torch.minimum(own.unsqueeze(0), own.unsqueeze(1))
    agrees = torch.equal(own, single) or int(single.max()) >= EXACT
    if not agrees or (both < 0).any() or (both > least).any() or int(own.max()) > total:
        raise ConfigError(
            f"{path}: its counts contradict each other: a pair fires more often than one of both, "
            f"or one more often than there are positions ({total}); harvest again"
        )
    if not torch.equal(both, both.T):
        raise ConfigError(f"{path}: count_ij is not symmetric; harvest again")


def _places(path: Path, keys: list[str]) -> Mapping[Site, Tensor]:
    """Return where each layer's components are, in the order of their numbers."""
    by_layer: dict[Site, dict[int, int]] = {}
    for place, key in enumerate(keys):
        layer, _, number = key.rpartition(":")
        if not layer or not number.isdecimal():
            raise ConfigError(f"{path}: component key {key!r} is no layer:number; harvest again")
        by_layer.setdefault(layer, {})[int(number)] = place
    for layer, numbers in by_layer.items():
        if sorted(numbers) != list(range(len(numbers))):
            raise ConfigError(
                f"{path}: the components of {layer!r} are not numbered from 0 without a gap; "
                "harvest again"
            )
    return {
        layer: torch.tensor([places for _, places in sorted(numbers.items())])
        for layer, numbers in by_layer.items()
    }


def _shapes(state: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {tuple(value.shape)}" if isinstance(value, Tensor) else str(key)
        for key, value in state.items()
    )
