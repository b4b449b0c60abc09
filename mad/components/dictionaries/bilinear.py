"""A bilinear layer's weights, eigen-decomposed: a ready dictionary, without any training.

``g(x) = P ((W x + b) * (V x + c)) + d`` is a quadratic form in ``x`` along each output direction,
and a quadratic form is a sum of squares of projections (Pearce et al. 2024, section 3).
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.frame import Frame
from mad.components.dictionaries.kinds.bilinear import BilinearEncoder
from mad.components.dictionaries.look import Look
from mad.errors import ConfigError

_NEGLIGIBLE = 1e-12
"""Eigenvalues below this share of the largest one are rounding errors."""

_TRIED = 8
"""Vectors on which a module is compared with what its weights say it computes."""


@final
@dataclass(frozen=True, kw_only=True)
class BilinearPlan:
    """Which linear layers of a module are multiplied, and how many eigenvectors are kept.

    Names are as ``bilinear_of`` takes them; ``k`` and ``rank`` are those of
    ``bilinear_dictionary``.
    """

    left: str
    right: str
    out: str | None = None
    k: int = 4
    rank: int | None = None


@final
@dataclass(frozen=True)
class BilinearWeights:
    """``x`` to ``out @ ((left @ x + left_bias) * (right @ x + right_bias)) + out_bias``."""

    left: Float[Tensor, "hidden source"]
    right: Float[Tensor, "hidden source"]
    left_bias: Float[Tensor, " hidden"]
    right_bias: Float[Tensor, " hidden"]
    out: Float[Tensor, "target hidden"]
    out_bias: Float[Tensor, " target"]

    @staticmethod
    def of(
        left: Float[Tensor, "hidden source"],
        right: Float[Tensor, "hidden source"],
        out: Float[Tensor, "target hidden"] | None = None,
    ) -> "BilinearWeights":
        """Leave the biases out; without ``out`` the products themselves are the output."""
        hidden = left.shape[0]
        out = torch.eye(hidden, dtype=left.dtype) if out is None else out
        none = left.new_zeros(hidden)
        return BilinearWeights(left, right, none, none, out, out.new_zeros(out.shape[0]))

    def __call__(self, x: Float[Tensor, "batch source"]) -> Float[Tensor, "batch target"]:
        """Return the layer's outputs."""
        hidden = (x @ self.left.T + self.left_bias) * (x @ self.right.T + self.right_bias)
        return hidden @ self.out.T + self.out_bias

    def form(self, hidden: Float64[Tensor, " hidden"]) -> Float64[Tensor, "extended extended"]:
        """Return the symmetric matrix of a weighted sum of the hidden products.

        It acts on ``x`` and a last coordinate that is always one, for the biases.
        """
        left, right = self._extended
        half = left.T @ (hidden.unsqueeze(1) * right) / 2
        return half + half.T

    def leading(self) -> Float64[Tensor, "direction target"]:
        """Return the output's left singular directions, those of the largest forms first.

        They are eigenvectors of the outputs' inner products as quadratic forms, which have a closed
        form: of ``sym(w v')`` and ``sym(w2 v2')`` it is ``(w.w2 v.v2 + w.v2 v.w2) / 2``.
        """
        left, right = self._extended
        crossed = left @ right.T
        inner = ((left @ left.T) * (right @ right.T) + crossed * crossed.T) / 2
        out = self.out.double()
        sizes, directions = torch.linalg.eigh(out @ inner @ out.T)
        kept = sizes > sizes[-1] * _NEGLIGIBLE
        found: Tensor = directions[:, kept].T.flip(0)
        return found

    @property
    def _extended(self) -> tuple[Float64[Tensor, "hidden extended"], ...]:
        sides = ((self.left, self.left_bias), (self.right, self.right_bias))
        return tuple(torch.cat([w, b.unsqueeze(1)], dim=1).double() for w, b in sides)


def bilinear_dictionary(
    weights: BilinearWeights,
    *,
    look: Look,
    k: int,
    directions: Float[Tensor, "direction target"] | None = None,
    rank: int | None = None,
) -> Dictionary:
    """Return the eigenvectors along each output direction, as components of the layer's output.

    A component's magnitude is ``|eigenvalue| * (eigenvector . x) ** 2``, and its direction the
    output direction with the eigenvalue's sign; the ``k`` largest are active. Components stand in
    the order of how large a form they are, and only the first ``rank`` are kept, where that is
    given. Directions are ``leading`` ones unless given, such as rows of an unembedding, which need
    not be orthogonal. The look reads the layer's input and writes its output.

    Laws: with every component kept and active, what is left over of the output is rounding; of the
    leading directions, the squares of the eigenvalues that ``rank`` drops add up to the squared
    size of the form that is dropped. Given directions explain what lies in their span.

    Raises:
        ConfigError: when the weights are zero, the pooling mixes positions, or sizes do not fit.
    """
    if look.pooling in ("mean", "max", "mean_max"):
        raise ConfigError(
            f"a bilinear layer squares each position by itself, which {look.pooling!r} pooling "
            "mixes: set the pooling to 'last'"
        )
    target = weights.out.shape[0]
    if directions is not None and directions.shape[1] != target:
        raise ConfigError(
            f"output directions have {directions.shape[1]} coordinates, and the bilinear layer "
            f"{target} outputs: give directions of its outputs"
        )
    along = weights.leading() if directions is None else directions.double()
    # Where directions lean on each other, these add up to what lies in their span.
    carried: Tensor = torch.linalg.pinv(along).T
    values, vectors, owners = _eigen(weights, along, carried, rank)
    dtype = weights.left.dtype
    signed = carried[owners] * values.sign().unsqueeze(1)
    return Dictionary(
        look=look,
        encoder=BilinearEncoder(
            vectors=vectors[:, :-1].T.to(dtype).contiguous(),
            shifts=vectors[:, -1].to(dtype),
            strengths=values.abs().to(dtype),
            k=min(k, len(values)),
        ),
        decoder=signed.to(dtype),
        source=Frame.identity(weights.left.shape[1]),
        target=Frame(weights.out_bias.float(), torch.ones(())),
        widths=(target,),
    )


def _eigen(
    weights: BilinearWeights,
    along: Float64[Tensor, "direction target"],
    carried: Float64[Tensor, "direction target"],
    rank: int | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return eigenvalues, eigenvectors (rows) and the direction each belongs to, largest first."""
    hidden = along @ weights.out.double()
    lengths = carried.norm(dim=1)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for number, row in enumerate(hidden):
        values, vectors = torch.linalg.eigh(weights.form(row))
        kept = _largest(values.abs(), rank)
        found.append((values[kept], vectors.T[kept], torch.full_like(kept, number)))
    if not any(values.numel() for values, _, _ in found):
        raise ConfigError("the bilinear layer's weights are zero: there is nothing to decompose")
    values, vectors, owners = (torch.cat(parts) for parts in zip(*found, strict=True))
    kept = _largest(values.abs() * lengths[owners], rank)
    return values[kept], vectors[kept], owners[kept]


def _largest(sizes: Float64[Tensor, " value"], most: int | None) -> Tensor:
    """Return the places of the largest sizes, descending, without those that are rounding."""
    order = sizes.argsort(descending=True, stable=True)[:most]
    return order[sizes[order] > sizes.amax() * _NEGLIGIBLE]


def bilinear_of(
    module: nn.Module, *, left: str, right: str, out: str | None = None
) -> BilinearWeights:
    """Return the weights of a module whose linear layers have these names, dotted if they are deep.

    Where ``left`` and ``right`` are the same layer, the first half of its outputs is multiplied by
    the second. The module must map vectors to vectors; it is tried on a few, in evaluation mode.

    Raises:
        ConfigError: when a layer is missing or not linear, or the module computes something else.
    """
    one, two = _linear(module, left), _linear(module, right)
    if left == right:
        (first, second), (first_bias, second_bias) = one[0].chunk(2), one[1].chunk(2)
        one, two = (first, first_bias), (second, second_bias)
    if one[0].shape != two[0].shape:
        raise ConfigError(
            f"{left!r} is {_size(one[0])} and {right!r} {_size(two[0])}: layers that are "
            "multiplied must be alike"
        )
    hidden = one[0].shape[0]
    last = (torch.eye(hidden), torch.zeros(hidden)) if out is None else _linear(module, out)
    if last[0].shape[1] != hidden:
        raise ConfigError(
            f"{out!r} takes {last[0].shape[1]} inputs, and {left!r} gives {hidden}: name the layer "
            "that takes the products"
        )
    weights = BilinearWeights(one[0], two[0], one[1], two[1], last[0], last[1])
    _try(module, weights)
    return weights


def _linear(module: nn.Module, name: str) -> tuple[Tensor, Tensor]:
    """Return a layer's weight and bias, in single precision."""
    try:
        layer = module.get_submodule(name)
    except AttributeError as cause:
        names = ", ".join(repr(name) for name, _ in module.named_modules() if name)
        raise ConfigError(f"the bilinear layer has no {name!r}; it has {names}") from cause
    if not isinstance(layer, nn.Linear):
        raise ConfigError(
            f"{name!r} is a {type(layer).__name__}; name a torch.nn.Linear of the bilinear layer"
        )
    weight = layer.weight.detach().float()
    bias = dict(layer.named_parameters()).get("bias", weight.new_zeros(len(weight)))
    return weight, bias.detach().float()


def _try(module: nn.Module, weights: BilinearWeights) -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(_TRIED, weights.left.shape[1], generator=generator)
    modes = {inner: inner.training for inner in module.modules()}
    own = next(module.parameters()).dtype
    try:
        with torch.no_grad():
            found = module.eval()(vectors.to(own)).float()
    except (RuntimeError, TypeError) as cause:
        raise ConfigError(f"the bilinear layer does not map vectors to vectors: {cause}") from cause
    finally:
        for inner, mode in modes.items():
            inner.training = mode
    expected = weights(vectors)
    tolerance = 4 * torch.finfo(own).eps ** 0.5 * expected.abs().amax()
    if found.shape != expected.shape or (found - expected).abs().amax() > tolerance:
        raise ConfigError(
            "the bilinear layer computes something else than the product of its linear layers, "
            "such as an activation between them: only products have a closed form"
        )


def _size(weight: Tensor) -> str:
    return " by ".join(map(str, weight.shape))
