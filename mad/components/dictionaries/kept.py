"""Keep what is made of weights, for as long as they live and are not changed."""

import weakref
from collections.abc import Callable, Hashable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, final

from torch import Tensor

Made = TypeVar("Made")


@final
@dataclass(frozen=True)
class _Entry(Generic[Made]):
    made: Made
    of: tuple[tuple[weakref.ref[Tensor], int], ...]
    way: Hashable

    def is_of(self, tensors: Sequence[Tensor], way: Hashable) -> bool:
        return (
            self.way == way
            and len(tensors) == len(self.of)
            and all(
                reference() is one and version == _version(one)
                for (reference, version), one in zip(self.of, tensors, strict=True)
            )
        )


@final
class Kept(Generic[Made]):
    """One thing for each tensor, made of it and others when first asked for."""

    def __init__(self) -> None:
        self._entries: MutableMapping[int, _Entry[Made]] = {}

    def of(
        self, tensors: Sequence[Tensor], way: Hashable, make: Callable[[Made | None], Made]
    ) -> Made:
        """Return what was made of these tensors in this way, making it anew if they changed.

        ``make`` is given what it may write over, if anything. What gradients change may change
        unseen, so it is made of it anew each time.
        """
        first = tensors[0]
        entry = self._entries.get(id(first))
        if entry is not None and entry.of[0][0]() is not first:
            entry = None
        is_fixed = not any(one.requires_grad for one in tensors)
        if entry is not None and is_fixed and entry.is_of(tensors, way):
            return entry.made
        # What is made of fixed tensors may be in use by another thread.
        made = make(None if entry is None or is_fixed else entry.made)
        if entry is None:
            weakref.finalize(first, self._entries.pop, id(first), None).atexit = False
        references = tuple((weakref.ref(one), _version(one)) for one in tensors)
        self._entries[id(first)] = _Entry(made, references, way)
        return made


def _version(tensor: Tensor) -> int:
    # Tensors made for inference cannot be changed outside of it, and count no versions.
    return 0 if tensor.is_inference() else tensor._version
