"""Statistics as JSON and tensors, and back, bit for bit."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

import torch
from torch import Tensor

from mad.codes.contexts import ContextMeans
from mad.codes.low_rank import WideMoments
from mad.codes.magnitudes import MagnitudeMoments
from mad.codes.statistics import Kept, KeptSets, ResidualMoments, SetCounts
from mad.fit.statistics import Growing, SiteStatistics
from mad.types import Ledger

KINDS: Final = {
    kind.__name__: kind
    for kind in (
        ContextMeans,
        Growing,
        Kept,
        KeptSets,
        Ledger,
        MagnitudeMoments,
        ResidualMoments,
        SetCounts,
        SiteStatistics,
        WideMoments,
    )
}
"""What can be written; nothing else is made when reading."""

_INTEGERS: Final = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_DTYPES: Final = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.bool,
        torch.uint8,
        torch.int32,
        torch.int64,
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
    )
}


def written(value: object) -> tuple[Any, dict[str, Tensor]]:
    """Return a value as JSON, and the tensors it refers to by name.

    Values are tensors, strings, numbers, None, tuples, and dataclasses of ``KINDS`` made of them.
    """
    arrays: dict[str, Tensor] = {}
    return _row(value, arrays), arrays


def read(row: Any, arrays: Mapping[str, Tensor]) -> Any:  # noqa: ANN401  # of any kind
    """Return the value that was written."""
    match row:
        case {"tensor": name, "dtype": dtype}:
            return arrays[name].view(_DTYPES[dtype])
        case {"tuple": rows}:
            return tuple(read(one, arrays) for one in rows)
        case {"kind": kind, "fields": own}:
            return KINDS[kind](**{name: read(one, arrays) for name, one in own.items()})
        case _:
            return row


def _row(value: object, arrays: dict[str, Tensor]) -> Any:  # noqa: ANN401  # any JSON
    if isinstance(value, Tensor):
        name = str(len(arrays))
        # As integers, since a length may be infinite and no length NaN, which files are refused
        # for. Copied, since safetensors refuses to write what two sites share.
        arrays[name] = value.view(_INTEGERS[value.element_size()]).clone()
        return {"tensor": name, "dtype": str(value.dtype).removeprefix("torch.")}
    if isinstance(value, tuple):
        return {"tuple": [_row(one, arrays) for one in value]}
    if is_dataclass(value):
        assert type(value) is KINDS[type(value).__name__]
        own = {one.name: _row(getattr(value, one.name), arrays) for one in fields(value)}
        return {"kind": type(value).__name__, "fields": own}
    assert value is None or isinstance(value, str | int | float)
    return value
