"""Components of a whole model as a decomposition: which of them an input uses, and where."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from mad import tensors
from mad.components.dictionaries.latents import Latents
from mad.components.parameters.apd.attributions import attributions
from mad.components.parameters.apd.components import Components, Factors
from mad.components.parameters.apd.passes import Visited
from mad.components.parameters.apd.rules import Above, Largest, Rule
from mad.components.parameters.layers import matrix_of
from mad.components.parameters.looked import INPUT
from mad.errors import ConfigError
from mad.types import Activations, Activity, Site, View


@final
@dataclass(frozen=True)
class ApdDecomposition:
    """Components of a whole model, seen at what each decomposed layer returns.

    A component that an input uses is active in every layer to which it adds anything. Its
    direction in a layer is that of the largest singular value of its matrix there, its magnitude
    what it writes along that direction, on average over positions; what it writes besides is in
    the residual, beside what components that are not used write. As layers see the same components,
    their views repeat each other where a component writes in several.

    It runs the model again, which has one input: once, and with a pass backward for each number of
    its output, or one of tangents for each component where these are no more. So it costs as many
    passes an input, and the monitored model keeps its hooks, gradients and outputs.
    """

    visited: Visited
    components: Components
    rule: Rule
    model_digest: str

    @staticmethod
    def of(model: nn.Module, components: Components, rule: Rule) -> "ApdDecomposition":
        """Put components beside the model that they are of.

        Raises:
            ConfigError: the model's weights are others than components and a rest could add up to,
                or the rule is of another number of components.
        """
        for factors in components.values():
            _check(model, factors)
            _check_rule(rule, factors)
        layers = [factors.layer for factors in components.values()]
        digest = tensors.digest(model.state_dict())
        return ApdDecomposition(Visited(model, layers), components, rule, digest)

    def on(self, model: nn.Module) -> "ApdDecomposition":
        """Return the same components as another model of this architecture uses them.

        Raises:
            ConfigError: as ``of``.
        """
        return ApdDecomposition.of(model, self.components, self.rule)

    @property
    def sites(self) -> tuple[Site, ...]:
        """What comes out of each layer, what goes into it, and what goes into the model."""
        return (*self.components, *(f"{name}<" for name in self.components), INPUT)

    @property
    def views(self) -> Mapping[View, Site]:
        """The default view of each layer's output."""
        return {name: name for name in self.components}

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the components, the rule and the model."""
        own = {f"{name}.a": one.a for name, one in self.components.items()}
        own |= {f"{name}.b": one.b for name, one in self.components.items()}
        note = f"largest {self.rule.count}" if isinstance(self.rule, Largest) else "above"
        if isinstance(self.rule, Above):
            own["thresholds"] = self.rule.thresholds
        return tensors.digest(own, note=f"apd {note} {self.model_digest}")

    def attributions(self, batch: Tensor) -> Float[Tensor, "batch component"]:
        """Return how much of each input's output each component accounts for, to first order."""
        with torch.inference_mode(mode=False):
            own = batch.clone()
            return attributions(self.visited, self.visited.look(own), own, self.components)

    def activity(self, activations: Activations) -> Mapping[View, Activity]:
        """Say what each input uses, how strongly in each layer, and what is left over."""
        batch = self.visited.as_input(activations[INPUT])
        used = self.rule(self.attributions(batch))
        return {
            name: self._activity(factors, used, activations)
            for name, factors in self.components.items()
        }

    def directions(
        self, view: View, components: Int64[Tensor, " entry"]
    ) -> Float[Tensor, "entry coordinate"]:
        """Return the direction in which each component writes most, at length one."""
        return self._directions[view][components]

    def spread(
        self,
        view: View,
        change: Float[Tensor, "batch coordinate"],
        activations: Float[Tensor, "batch ..."],
    ) -> Float[Tensor, "batch ..."]:
        """Change every position alike."""
        change = change.to(activations.dtype)
        extra = activations.ndim - 2
        if self.components[view].layer.window is not None:
            return change.reshape(*change.shape, *[1] * extra).expand_as(activations)
        return change.reshape(len(change), *[1] * extra, -1).expand_as(activations)

    @cached_property
    def _directions(self) -> Mapping[View, Float[Tensor, "component coordinate"]]:
        return {name: _principal(factors) for name, factors in self.components.items()}

    def _activity(
        self, factors: Factors, used: Bool[Tensor, "batch component"], activations: Activations
    ) -> Activity:
        name = factors.layer.name
        directions = self._directions[name]
        given = activations[f"{name}<"]
        inner = factors.inner(given if factors.layer.kind == "embedding" else given.float())
        along = torch.einsum("crt,ct->cr", factors.b, directions)
        shares = (inner * along).sum(dim=-1)
        shares = shares.flatten(1, -2).mean(dim=1) if shares.ndim > 2 else shares  # noqa: PLR2004  # positions
        latents = Latents.where(used & (shares != 0), shares)
        activation = _pooled(factors, activations[name])
        bias = self.visited.biases[name]
        beside = torch.zeros(factors.layer.target) if bias is None else bias.flatten()
        return Activity(
            offsets=latents.offsets,
            components=latents.components,
            magnitudes=latents.values,
            residual=activation - beside - latents.explained(directions),
            activation=activation,
            num_components=factors.width,
        )


def _principal(factors: Factors) -> Float[Tensor, "component coordinate"]:
    """Return the right singular vector of each component's largest value; zeros for nothing."""
    # Through the small factor: of ``q r`` with orthogonal columns, ``r b`` has the same ones.
    small = torch.linalg.qr(factors.a).R @ factors.b
    right: Tensor = torch.linalg.svd(small, full_matrices=False).Vh
    first = right[:, 0]
    # The sign is of no account to a singular vector; to fingerprints and pages it is.
    turned = first * first.gather(1, first.abs().argmax(dim=1, keepdim=True)).sign()
    is_there = small.flatten(1).norm(dim=1, keepdim=True) > 0
    return functional.normalize(torch.where(is_there, turned, torch.zeros_like(turned)), dim=1)


def _pooled(factors: Factors, written: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch target"]:
    if written.ndim == 2:  # noqa: PLR2004  # batch and coordinates
        return written.float()
    if factors.layer.window is not None:
        return written.flatten(2).float().mean(dim=2)
    return written.flatten(1, -2).float().mean(dim=1)


def _check(model: nn.Module, factors: Factors) -> None:
    layer = factors.layer
    matrix = matrix_of(model, layer)
    if matrix.shape != (layer.source, layer.target):
        raise ConfigError(
            f"components of layer {layer.name!r} are {layer.source} by {layer.target}, and the "
            f"model's matrix is {tuple(matrix.shape)}; load the model that was decomposed"
        )
    missed = factors.missed(matrix)
    if missed >= 1.0:
        raise ConfigError(
            f"components of layer {layer.name!r} miss {missed:.3g} times the squares of the "
            "model's matrix; load the model that was decomposed, or train them longer"
        )


def _check_rule(rule: Rule, factors: Factors) -> None:
    most = len(rule.thresholds) if isinstance(rule, Above) else rule.count
    fits = most == factors.width if isinstance(rule, Above) else 1 <= most <= factors.width
    if not fits:
        raise ConfigError(
            f"a rule of {most} components was given for {factors.width} of them; give a threshold "
            "for each, or a number of the largest that is no more"
        )
