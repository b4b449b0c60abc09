"""The model being watched: a module, the names of its inputs, and the hash that identifies it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from torch import nn

from mad import tensors


@final
@dataclass(frozen=True)
class MonitoredModel:
    """A module in evaluation mode.

    ``inputs`` names the positional arguments of its ``forward``, in order.
    """

    name: str
    module: nn.Module
    inputs: tuple[str, ...]
    fingerprint: str

    @staticmethod
    def of(module: nn.Module, *, name: str, inputs: Sequence[str]) -> "MonitoredModel":
        """Put the module into evaluation mode and take its fingerprint."""
        return MonitoredModel(name, module.eval(), tuple(inputs), fingerprint(module))


def fingerprint(module: nn.Module) -> str:
    """Return a SHA-256 of architecture and weights.

    The architecture counts by module names, class names and their printed settings, so that the
    same code imported under another path is the same model.
    """
    architecture = "\n".join(
        f"{name}:{type(part).__name__}({part.extra_repr()})"
        for name, part in module.named_modules()
    )
    return tensors.digest(module.state_dict(), note=architecture)
