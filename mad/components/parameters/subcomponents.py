"""What a trained or imported decomposition is made of, one value a layer."""

from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor

from mad.components.parameters.importance import ImportanceFunction
from mad.components.parameters.layers import MatrixLayer


@final
@dataclass(frozen=True)
class Subcomponents:
    """One layer's matrix as ``v @ u`` and a rest: subcomponent ``c`` is ``outer(v[:, c], u[c])``.

    With every subcomponent scaled by a mask, ``rows @ matrix`` becomes ``((rows @ v) * mask) @ u``.
    What ``v @ u`` misses of the matrix is the delta component. Components are named
    ``layer:index``.
    """

    layer: MatrixLayer
    v: Float[Tensor, "source component"]
    u: Float[Tensor, "component target"]
    importance: ImportanceFunction

    def __post_init__(self) -> None:
        assert self.v.shape == (self.layer.source, self.width)
        assert self.u.shape == (self.width, self.layer.target)
        assert self.importance.width == self.width

    @property
    def width(self) -> int:
        """The number of subcomponents."""
        return self.v.shape[1]
