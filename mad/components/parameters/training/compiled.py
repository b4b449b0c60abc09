"""Losses and gradients as one graph, compiled where there is a C++ compiler.

Tracing runs the work once on an example and records what it does with tensors, whatever the model
is made of; gradients are part of the record. What depends on shapes or on numbers of Python is as
it was in the example.
"""

import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

Work: TypeAlias = Callable[[Sequence[Tensor], Sequence[Tensor]], tuple[Tensor, list[Tensor]]]
"""Of what is differentiated and what is not: figures, and gradients of the former."""

_OPTIONS: Final[Mapping[str, str | int]] = {
    # Sums over inputs and over units each compute a slope again: sooner than millions are kept.
    "realize_opcount_threshold": 100,
    "cpp.enable_floating_point_contract_flag": "fast",
}


def can_compile() -> bool:
    """Whether there is a compiler that torch can use."""
    return any(shutil.which(name) for name in ("g++", "clang++", "c++"))


def traced(work: Work, leaves: Sequence[Tensor], given: Sequence[Tensor]) -> Work:
    """Compile a piece of work for tensors of these shapes."""
    graph = make_fx(work)(list(leaves), list(given))
    with warnings.catch_warnings():
        # The compiler imports modules of torch that torch itself deprecates.
        warnings.simplefilter("ignore", DeprecationWarning)
        compiled: Work = torch.compile(graph, dynamic=False, options={**_OPTIONS})
        compiled(list(leaves), list(given))
    return compiled
