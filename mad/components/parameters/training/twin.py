"""Any monitored model with masked layers: a twin that holds the same weights, and asks each layer.

The delta component is ``matrix - v @ u``, and is never formed: as ``rows @ matrix`` is what the
layer itself returns, ``(mask * inner) @ u + d * (rows @ delta)`` is
``((mask - d) * inner) @ u + d * (rows @ matrix)``. What a layer is given, and returns, without
gradients is what the model as it is gave it: its own weights have none.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from mad.components.parameters.layers import MatrixLayer
from mad.components.parameters.looked import checked_output
from mad.components.parameters.subcomponents import Subcomponents
from mad.components.parameters.training import layout
from mad.components.parameters.training.passes import Looked, Mask, Seen

Visit: TypeAlias = Callable[[MatrixLayer, nn.Module, Tensor], Tensor]


@final
class Twin:
    """A model whose decomposed layers can be masked; the monitored model itself is not touched."""

    def __init__(self, model: nn.Module, layers: Sequence[MatrixLayer]) -> None:
        shared = {
            id(one): nn.Parameter(one.detach(), requires_grad=False) for one in model.parameters()
        }
        self._layers = {layer.name: layer for layer in layers}
        self._model = copy.deepcopy(model, {**shared, **{id(one): one for one in model.buffers()}})
        self._model.eval()
        self._visit: Visit = _as_it_is
        for name, layer in self._layers.items():
            self._replace(self._model.get_submodule(name), layer)

    def look(self, batch: Shaped[Tensor, "batch ..."]) -> Looked:
        """Run the model as it is.

        Raises:
            ConfigError: a layer is not called once in a run, or the output is not a tensor.
        """
        seen: dict[str, Seen] = {}
        calls = dict.fromkeys(self._layers, 0)

        def visit(layer: MatrixLayer, original: nn.Module, given: Tensor) -> Tensor:
            calls[layer.name] += 1
            returned: Tensor = original(given)
            seen[layer.name] = Seen(given, returned)
            return returned

        with torch.no_grad():
            output = self._run(batch, visit)
        return Looked(checked_output(output, calls=calls), seen)

    def inner(self, looked: Looked, piece: Subcomponents) -> Float[Tensor, "*place component"]:
        """Return inner activations of a layer in the model as it is."""
        return layout.inner(piece.layer, looked.seen[piece.layer.name].given, piece.v)

    def source(self, looked: Looked, piece: Subcomponents) -> Float[Tensor, "*place source"]:
        """Return the rows that a layer was given in the model as it is."""
        return piece.layer.rows(looked.seen[piece.layer.name].given)

    def masked(
        self,
        looked: Looked,
        batch: Shaped[Tensor, "batch ..."],
        inner: Mapping[str, Float[Tensor, "..."]],
        masks: Mapping[str, tuple[Subcomponents, Mask]],
    ) -> Float[Tensor, "batch ..."]:
        """Return the output with these layers masked; ``inner`` is of the model as it is."""

        def visit(layer: MatrixLayer, original: nn.Module, given: Tensor) -> Tensor:
            is_own = torch.is_grad_enabled() and not given.requires_grad
            returned = looked.seen[layer.name].returned if is_own else original(given)
            if layer.name not in masks:
                return returned
            piece, mask = masks[layer.name]
            activations = inner[layer.name] if is_own else layout.inner(layer, given, piece.v)
            return _masked(piece, mask, activations, given, returned, _bias(original))

        return self._run(batch, visit)

    def _run(self, batch: Tensor, visit: Visit) -> Tensor:
        self._visit = visit
        try:
            output: Tensor = self._model(batch)
        finally:
            self._visit = _as_it_is
        return output

    def _replace(self, original: nn.Module, layer: MatrixLayer) -> None:
        asked = _Asked(original, lambda given: self._visit(layer, original, given))
        for parent in list(self._model.modules()):
            # Not named_children(), which gives a child of two names once.
            for name, child in list(parent._modules.items()):
                if child is original:
                    setattr(parent, name, asked)


@final
class _Asked(nn.Module):
    """A layer that asks what to return; its weights can be looked at, as the layer's own can."""

    def __init__(self, original: nn.Module, ask: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.weight = original.weight
        self.bias = _bias(original)
        self._ask = ask

    def forward(self, given: Tensor) -> Tensor:
        """Return what the pass that is under way makes of it."""
        return self._ask(given)


def _masked(  # what the algebra of one layer takes
    piece: Subcomponents,
    mask: Mask,
    inner: Tensor,
    given: Tensor,
    returned: Tensor,
    bias: Tensor | None,
) -> Tensor:
    layer = piece.layer
    scaled = mask.subcomponents if mask.delta is None else mask.subcomponents - mask.delta
    out = layer.shaped(layout.product(scaled * inner, piece.u), given)
    beside = None if bias is None else bias.reshape(-1, *[1] * (2 * (layer.window is not None)))
    if mask.delta is not None:
        product = returned if beside is None else returned - beside
        out = out + layer.spread(mask.delta, returned) * product
    if beside is not None:
        out = out + beside
    if mask.routed is None:
        return out
    return torch.where(layer.spread(mask.routed, returned), out, returned)


def _bias(module: nn.Module) -> Tensor | None:
    return getattr(module, "bias", None)


def _as_it_is(layer: MatrixLayer, original: nn.Module, given: Tensor) -> Tensor:  # noqa: ARG001  # Visit
    returned: Tensor = original(given)
    return returned
