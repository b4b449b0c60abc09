"""Values read from disk, held against what their classes say of arrays and their axes."""

from dataclasses import fields
from typing import Any, get_type_hints

from torch import Tensor

_LONGER = ("_and_any", "_and_new", "_and_none", "_and_end")


def check(value: Any) -> None:  # noqa: ANN401  # any dataclass of arrays and plain values
    """Refuse a value whose fields are not what its class annotates.

    Axes of one name have one length, and an axis ``x_and_any`` is one longer than ``x``, as are the
    other ``_LONGER`` ones; a tuple ``xs`` is as long as axis ``x``.

    Raises:
        ValueError: names the field.
    """
    hints = get_type_hints(type(value))
    lengths: dict[str, int] = {}
    for field in fields(value):
        found, hint = getattr(value, field.name), hints[field.name]
        if isinstance(found, Tensor):
            axes = dict(zip(hint.dim_str.split(), found.shape, strict=False))
            is_right = isinstance(found, hint) and all(
                _is_known(name, length, lengths) for name, length in axes.items()
            )
        elif isinstance(found, tuple):
            lengths[field.name.removesuffix("s")] = len(found)
            is_right = all(isinstance(one, hint.__args__[0]) for one in found)
        else:
            is_right = isinstance(found, hint)
        if not is_right:
            shape = f" of shape {tuple(found.shape)}" if isinstance(found, Tensor) else ""
            raise ValueError(f"{type(value).__name__}.{field.name}{shape} is no {hint}")


def _is_known(axis: str, length: int, lengths: dict[str, int]) -> bool:
    """Say whether an axis is as long as was found before; what is new is noted."""
    for suffix in _LONGER:
        if axis.endswith(suffix):
            axis, length = axis.removesuffix(suffix), length - 1
    return lengths.setdefault(axis, length) == length
