"""Layers of a model as matrices: what a row of input is, and how rows of output make the output.

A matrix is kept as ``source x target``, so that a layer's output is ``rows @ matrix`` plus a bias.
Biases are never decomposed.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional

from mad.errors import ConfigError

LayerKind: TypeAlias = Literal["linear", "conv1d", "conv2d", "embedding"]
"""``conv1d`` is the layer of that name in transformers' GPT-2: a linear one, kept transposed."""


@final
@dataclass(frozen=True)
class MatrixLayer:
    """One matrix of a model: its module's name, and its sizes.

    ``window`` has a convolution's kernel size, stride, padding and dilation, each for both axes:
    a row is then one unfolded patch, and a position one place of the output.
    """

    name: str
    kind: LayerKind
    source: int
    target: int
    window: tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int]] | None = None

    def rows(self, given: Shaped[Tensor, "..."]) -> Float[Tensor, "*place source"]:
        """Return the rows that a module's input consists of; the first axis stays the batch.

        An embedding's are one-hot: prefer ``inner``, which never makes them.
        """
        if self.kind == "embedding":
            return functional.one_hot(given.long(), self.source).float()
        if self.window is None:
            return given
        kernel, stride, padding, dilation = self.window
        patches = functional.unfold(
            given, kernel, dilation=dilation, padding=padding, stride=stride
        )
        return patches.transpose(1, 2)

    def inner(
        self, given: Shaped[Tensor, "..."], v: Float[Tensor, "source component"]
    ) -> Float[Tensor, "*place component"]:
        """Return ``rows @ v``: an embedding looks its rows of ``v`` up."""
        if self.kind == "embedding":
            return v[given.long()]
        return self.rows(given) @ v

    def shaped(
        self, out: Float[Tensor, "*place target"], given: Shaped[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """Return rows of output as the module shapes them, for what it was given."""
        if self.window is None:
            return out
        kernel, stride, padding, dilation = self.window
        height, width = (
            (given.shape[axis - 2] + 2 * padding[axis] - dilation[axis] * (kernel[axis] - 1) - 1)
            // stride[axis]
            + 1
            for axis in (0, 1)
        )
        return out.transpose(1, 2).reshape(len(out), self.target, height, width)

    def spread(
        self, numbers: Shaped[Tensor, "*place 1"], out: Float[Tensor, "..."]
    ) -> Shaped[Tensor, "..."]:
        """Return one number a position, as it is multiplied with the module's output."""
        if self.window is None:
            return numbers
        return numbers.transpose(1, 2).reshape(len(out), 1, *out.shape[2:])


def matrix_layer(model: nn.Module, name: str) -> MatrixLayer:
    """Describe a module of a model as a matrix.

    Raises:
        ConfigError: there is no such module, or it is none of the layers that can be decomposed.
    """
    modules = dict(model.named_modules())
    if not name or name not in modules:
        raise ConfigError(
            f"the model has no module named {name!r}; it has {', '.join(filter(None, modules))}"
        )
    module = modules[name]
    match module:
        case nn.Linear():
            return MatrixLayer(name, "linear", module.in_features, module.out_features)
        case nn.Embedding():
            if module.max_norm is not None:
                raise ConfigError(
                    f"embedding {name!r} has max_norm = {module.max_norm}, which changes its "
                    "weights as it runs; decompose other layers, or leave max_norm out"
                )
            return MatrixLayer(name, "embedding", module.num_embeddings, module.embedding_dim)
        case nn.Conv2d():
            return _convolution(name, module)
    if type(module).__name__ == "Conv1D" and isinstance(getattr(module, "weight", None), Tensor):
        source, target = module.weight.shape
        return MatrixLayer(name, "conv1d", source, target)
    raise ConfigError(
        f"module {name!r} is a {type(module).__name__}, and only Linear, Conv1D of transformers, "
        "Conv2d and Embedding can be decomposed; name such a layer inside it"
    )


def matrix_of(model: nn.Module, layer: MatrixLayer) -> Float[Tensor, "source target"]:
    """Return a layer's matrix: a view of the module's own weights, without gradients."""
    weight: Tensor = model.get_submodule(layer.name).weight  # type: ignore[assignment]  # a layer's
    weight = weight.detach()
    match layer.kind:
        case "linear":
            return weight.T
        case "conv2d":
            return weight.flatten(1).T
        case "conv1d" | "embedding":
            return weight


def bias_of(model: nn.Module, layer: MatrixLayer) -> Float[Tensor, " target"]:
    """Return a layer's bias, zeros where it has none."""
    bias = getattr(model.get_submodule(layer.name), "bias", None)
    return torch.zeros(layer.target) if bias is None else bias.detach()


def _convolution(name: str, module: nn.Conv2d) -> MatrixLayer:
    if module.groups != 1 or module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise ConfigError(
            f"convolution {name!r} has groups = {module.groups}, padding_mode = "
            f"{module.padding_mode!r} and padding = {module.padding!r}; only one group, padded by "
            "a number of zeros, is a single matrix over patches: decompose other layers"
        )
    height, width = module.kernel_size
    window = tuple(
        (int(both[0]), int(both[1]))
        for both in (module.kernel_size, module.stride, module.padding, module.dilation)
    )
    return MatrixLayer(
        name,
        "conv2d",
        module.in_channels * height * width,
        module.out_channels,
        window,  # type: ignore[arg-type]  # four pairs
    )
