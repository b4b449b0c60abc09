"""What a model answers otherwise with an input's active subcomponents alone: a view of its output.

In the masked model each decomposed layer writes what its active subcomponents write, and its bias;
other subcomponents and the delta component are off. A mechanism that no subcomponent stands for may
make an ordinary active set, and shows in what that set leaves unanswered.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, assert_never, final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from mad.components.base import Decomposition
from mad.components.joined import Joined
from mad.components.parameters.apd.passes import Visited
from mad.components.parameters.apd.readout import ApdDecomposition
from mad.components.parameters.decomposed import DecomposedLayer
from mad.components.parameters.decomposition import ParameterDecomposition
from mad.components.parameters.looked import INPUT, OUTPUT
from mad.components.parameters.training.plan import Distance
from mad.components.pooling import pool, unpool
from mad.components.unexplained import left_over, no_directions
from mad.errors import ConfigError
from mad.types import Activations, Activity, Site, View, view_of

MASKED: Final[View] = view_of(OUTPUT, "masked")
"""The one view: the model's output, through the masked model."""


@final
@dataclass(frozen=True)
class MaskedOutput:
    """A view of a model's output, without components: all that it says is residual.

    It is the model's own answer less that of the masked model, pooled over positions as the layers
    are. By the ``distance`` mse answers are outputs as they are; by kl logits less their mean over
    labels, as a softmax does not see what they have in common. Active is what was active in the
    model's own run, whatever layers are given in the masked one, which is one more on what went
    into the model. So this is told of a run elsewhere too; of a model that takes one tensor and
    returns one.
    """

    pieces: ParameterDecomposition
    distance: Distance
    visited: Visited

    @staticmethod
    def of(
        model: nn.Module, pieces: ParameterDecomposition, *, distance: Distance
    ) -> "MaskedOutput":
        """Put the model, whose weights are shared, beside its pieces.

        Raises:
            ConfigError: the layers are not those of the model, as ``check_model``.
        """
        pieces.check_model(model)
        layers = [layer.parts.layer for layer in pieces.layers]
        return MaskedOutput(pieces, distance, Visited(model, layers))

    def on(self, model: nn.Module) -> "MaskedOutput":
        """Return the same of another model of this architecture, with the same pieces in it."""
        layers = [layer.parts.layer for layer in self.pieces.layers]
        return replace(self, visited=Visited(model, layers))

    @property
    def sites(self) -> tuple[Site, ...]:
        """What comes out of the model, what goes into it, and what goes into each layer."""
        return (OUTPUT, INPUT, *(f"{layer.name}<" for layer in self.pieces.layers))

    @property
    def views(self) -> Mapping[View, Site]:
        """The one view of the output."""
        return {MASKED: OUTPUT}

    @cached_property
    def fingerprint(self) -> str:
        """The pieces and the distance are all there is beside the model."""
        return f"masked {self.distance} {self.pieces.fingerprint}"

    def activity(self, activations: Activations) -> Mapping[View, Activity]:
        """Leave over what the masked model answers otherwise.

        Raises:
            ConfigError: the model cannot be run on what went into it, or answers one number, of
                which kl says nothing.
        """
        output = activations[OUTPUT]
        masked = self._masked(activations, like=output)
        return {MASKED: left_over(self._answer(output) - self._answer(masked))}

    def directions(
        self,
        view: View,  # noqa: ARG002  # Decomposition
        components: Int64[Tensor, " entry"],
    ) -> Float[Tensor, "entry coordinate"]:
        """Return none, since there are no components to ask for."""
        return no_directions(components)

    def spread(
        self,
        view: View,  # noqa: ARG002  # Decomposition
        change: Float[Tensor, "batch coordinate"],
        activations: Float[Tensor, "batch ..."],
    ) -> Float[Tensor, "batch ..."]:
        """Change the positions of the output as the pooling needs it."""
        return unpool(change.to(activations.dtype), activations, self.pieces.pooling)

    def _masked(
        self, activations: Activations, *, like: Float[Tensor, "batch ..."]
    ) -> Float[Tensor, "batch ..."]:
        """Run the masked model on what went into the model."""
        active = self.pieces.active(activations)

        def visit(name: str, given: Tensor, out: Tensor) -> Tensor:
            return _written(self._layers[name], active[name], given).to(out.dtype)

        # A copy: a first operation in place would change what others read.
        batch = self.visited.as_input(activations[INPUT]).clone()
        try:
            with torch.no_grad():
                output = self.visited.run(batch, visit)
        except (RuntimeError, TypeError) as cause:
            raise ConfigError(
                f"the model cannot be run again on what went into it, {batch.dtype} of shape "
                f"{tuple(batch.shape)}: set decomposition.parameters.masked_output = false, or "
                f"give a model that takes one tensor of floats, or of tokens ({cause})"
            ) from cause
        assert output.shape == like.shape
        return output

    def _answer(self, output: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch coordinate"]:
        pooled = pool(output, self.pieces.pooling).float()
        match self.distance:
            case "mse":
                return pooled
            case "kl":
                if pooled.shape[1] == 1:
                    raise ConfigError(
                        "the model answers one number, and distance = 'kl' compares logits of "
                        "several labels: set distance = 'mse'"
                    )
                return pooled - pooled.mean(dim=1, keepdim=True)
            case never:
                assert_never(never)

    @cached_property
    def _layers(self) -> Mapping[str, DecomposedLayer]:
        return {layer.name: layer for layer in self.pieces.layers}


def with_masked_output(
    pieces: ParameterDecomposition, model: nn.Module, distance: Distance | None
) -> Decomposition:
    """Return pieces with the view of the output beside theirs, or alone if None is the distance."""
    if distance is None:
        return pieces
    return Joined((pieces, MaskedOutput.of(model, pieces, distance=distance)))


def on_model(decomposition: Decomposition, model: nn.Module) -> Decomposition:
    """Return what reads another model of one architecture: some components run the model again."""
    match decomposition:
        case Joined(parts):
            return Joined(tuple(on_model(part, model) for part in parts))
        case MaskedOutput() | ApdDecomposition():
            return decomposition.on(model)
        case _:
            return decomposition


def pieces_of(decomposition: Decomposition) -> ParameterDecomposition | None:
    """Return the pieces of weights that a decomposition has; None if it has none."""
    parts = decomposition.parts if isinstance(decomposition, Joined) else (decomposition,)
    return next((one for one in parts if isinstance(one, ParameterDecomposition)), None)


def _written(
    layer: DecomposedLayer,
    active: Bool[Tensor, "*place component"],
    given: Float[Tensor, "batch ..."] | Int64[Tensor, "batch ..."],
) -> Float[Tensor, "batch ..."]:
    """Return what the active subcomponents of a layer and its bias write, as the module does."""
    parts = layer.parts
    inner = parts.layer.inner(given if parts.layer.kind == "embedding" else given.float(), parts.v)
    written = inner.masked_fill(~active, 0.0) @ parts.u + layer.bias
    return parts.layer.shaped(written, given)
