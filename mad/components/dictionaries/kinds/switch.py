"""Switch: a router sends each vector to a few experts, and only their latents are computed.

Mudide et al. 2024, section 3, with several experts a vector (``active_experts``) and one that sees
every vector (``always_on``). Known problem: experts may learn the same directions; ``routing.py``
measures how many.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mad.components.dictionaries.base import Forward, Learned, Step
from mad.components.dictionaries.dead import revival
from mad.components.dictionaries.initial import Start
from mad.components.dictionaries.kernels import by_component, largest, to_unit_length
from mad.components.dictionaries.kinds.experts import alike
from mad.components.dictionaries.latents import Latents
from mad.components.dictionaries.look import Examples
from mad.components.dictionaries.plan import DictionaryPlan
from mad.errors import ConfigError

BALANCE_WEIGHT = 0.01
"""Weight of the load balance (Fedus et al. 2021, section 2.2)."""


@final
@dataclass(frozen=True)
class Route:
    """The experts that each vector goes to, and how much their latents count.

    ``chances`` are the router's probabilities, of every expert but an always-on one. The weight of
    a chosen expert is its chance, and of an always-on one, which comes last, one.
    """

    experts: Int64[Tensor, "batch slot"]
    weights: Float[Tensor, "batch slot"]
    chances: Float[Tensor, "batch routed"]

    def balance(self) -> Float[Tensor, ""]:
        """Return the load balance: ``n * sum_i share_i * mean chance_i`` over n routed experts.

        Law: it is one where all are chosen equally often, or have equal chances (Fedus et al.
        2021, equation 4). Gradients go through the chances alone.
        """
        routed = self.chances.shape[1]
        chosen = self.experts[self.experts < routed]
        shares = chosen.bincount(minlength=routed) / max(chosen.numel(), 1)
        return routed * (shares * self.chances.mean(dim=0)).sum()


def route(
    source: Float[Tensor, "batch source"],
    router: Float[Tensor, "source routed"],
    bias: Float[Tensor, " routed"],
    *,
    active: int,
    always_on: bool,
) -> Route:
    """Choose the ``active`` likeliest experts of ``softmax(u @ router + bias)`` for each vector."""
    chances = (source @ router + bias).softmax(dim=1)
    weights, experts = chances.topk(active, dim=1)
    if always_on:
        last = experts.new_full((len(source), 1), router.shape[1])
        experts = torch.cat([experts, last], dim=1)
        weights = torch.cat([weights, torch.ones_like(weights[:, :1])], dim=1)
    return Route(experts, weights, chances)


def strongest(
    source: Float[Tensor, "batch source"],
    chosen: Route,
    blocks: Sequence[tuple[Float[Tensor, "source own"], Float[Tensor, " own"]]],
    k: int,
) -> Latents:
    """Return the ``k`` largest latents of the chosen experts, each times its expert's weight.

    ``blocks`` are weight and bias of each expert. Vectors are sorted by expert, so that each expert
    is one product with those that chose it: the others' latents are never computed.
    """
    slots, own = chosen.experts.shape[1], blocks[0][1].numel()
    most = min(k, own)
    by_expert = chosen.experts.flatten()
    order = by_expert.argsort(stable=True)
    pieces = order.split(by_expert.bincount(minlength=len(blocks)).tolist())
    found = [
        largest(source[pairs // slots], weight, bias, most)
        for pairs, (weight, bias) in zip(pieces, blocks, strict=True)
    ]
    back = order.argsort()
    values = torch.cat([values for values, _ in found])[back].relu()
    components = torch.cat([components for _, components in found])[back]
    values = (values * chosen.weights.reshape(-1, 1)).reshape(len(source), -1)
    components = (components + own * by_expert.unsqueeze(1)).reshape(len(source), -1)
    # Several experts offer k latents each, in the order of their chances.
    if slots > 1:
        values, kept = values.topk(min(k, values.shape[1]), dim=1)
        components, ascending = components.gather(1, kept).sort(dim=1)
        values = values.gather(1, ascending)
    return Latents.chosen(values, components)


@final
@dataclass(frozen=True)
class SwitchEncoder:
    """The ``k`` largest of the chosen experts' ``relu(u @ weight + bias)`` times their chances.

    Latents are in ``experts`` blocks of equal width, one an expert; ``active_experts`` are chosen
    besides the last, where that is ``always_on``.
    """

    kind: ClassVar[str] = "switch"

    weight: Float[Tensor, "source component"]
    bias: Float[Tensor, " component"]
    router: Float[Tensor, "source routed"]
    router_bias: Float[Tensor, " routed"]
    k: int
    experts: int
    active_experts: int
    always_on: bool

    @property
    def width(self) -> int:
        """The number of latents of all experts."""
        return self.bias.numel()

    def encode(self, source: Float[Tensor, "batch source"]) -> Latents:
        """Return the largest latents of the chosen experts."""
        return strongest(source, self.route(source), self._own_blocks, self.k)

    def route(self, source: Float[Tensor, "batch source"]) -> Route:
        """Choose experts for each normalised vector."""
        return route(
            source,
            self.router,
            self.router_bias,
            active=self.active_experts,
            always_on=self.always_on,
        )

    @cached_property
    def _own_blocks(self) -> Sequence[tuple[Tensor, Tensor]]:
        # Kept, as kernels keep what they make of weights for as long as those live.
        return _blocks(by_component(self.weight), self.bias, self.experts)


@final
@dataclass
class SwitchLearner:
    """Trains experts and their router; dead latents learn what is left over of their vectors."""

    encoder: Float[Tensor, "source component"]
    encoder_bias: Float[Tensor, " component"]
    decoder: Float[Tensor, "component target"]
    router: Float[Tensor, "source routed"]
    router_bias: Float[Tensor, " routed"]
    plan: DictionaryPlan
    buffers: Mapping[str, Tensor] = field(default_factory=dict)

    @staticmethod
    def begin(start: Start, plan: DictionaryPlan) -> "SwitchLearner":
        """Own the first weights; the router starts at random.

        Raises:
            ConfigError: when the experts cannot share the width evenly, or too few can be chosen.
        """
        width = start.bias.numel()
        if width % plan.experts:
            even = plan.experts * (width // plan.experts + 1)
            raise ConfigError(
                f"{plan.experts} experts cannot share {width} latents evenly; "
                f"set the width to {even}"
            )
        routed = plan.experts - plan.always_on
        if not 1 <= plan.active_experts <= routed:
            raise ConfigError(
                f"active_experts is {plan.active_experts}; {plan.experts} experts"
                f"{', of which one is always on,' if plan.always_on else ''} leave {routed} to "
                "choose from: set it from 1 to that"
            )
        generator = torch.Generator().manual_seed(plan.seed)
        block = width // plan.experts * routed
        order, router = alike(start.encoder.T[:block], routed, generator=generator)
        order = torch.cat([order, torch.arange(block, width)])
        own = Start(start.encoder[:, order], start.bias[order], start.decoder[order]).owned()
        bias = start.bias.new_zeros(routed)
        return SwitchLearner(
            by_component(own.encoder.detach()).requires_grad_(),
            own.bias,
            own.decoder,
            router.requires_grad_(),
            bias.requires_grad_(),
            plan,
        )

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """The weights of the experts and the router."""
        names = ("encoder", "encoder_bias", "decoder", "router", "router_bias")
        return {name: getattr(self, name) for name in names}

    @property
    def width(self) -> int:
        """The number of latents of all experts."""
        return self.encoder_bias.numel()

    def forward(self, source: Float[Tensor, "batch source"]) -> Forward:
        """Reconstruct from the largest latents of the chosen experts."""
        blocks = _blocks(self.encoder, self.encoder_bias, self.plan.experts)
        latents = strongest(source, self._route(source), blocks, min(self.plan.k, self.width))
        return Forward(latents.explained(self.decoder), latents)

    def penalty(self, forward: Forward, batch: Examples, step: Step) -> Float[Tensor, ""]:
        """Balance the load, and let the dead of the chosen experts explain the error."""
        chosen = self._route(batch.source)
        balance = BALANCE_WEIGHT * chosen.balance()
        if not step.dead.numel():
            return balance
        before = batch.source @ self.encoder[:, step.dead] + self.encoder_bias[step.dead]
        counts = before.new_zeros(len(batch), self.plan.experts)
        counts = counts.scatter(1, chosen.experts, chosen.weights.detach())
        before = before * counts[:, step.dead // (self.width // self.plan.experts)]
        error = batch.target - forward.explained
        revived = revival(before, step.dead, self.decoder, error, most=2 * self.plan.k)
        return balance + self.plan.auxiliary_weight * revived

    def stepped(self, forward: Forward) -> None:  # noqa: ARG002  # Learner
        """Keep directions at unit length."""
        to_unit_length(self.decoder)

    def finish(self, sample: Examples) -> Learned:  # noqa: ARG002  # Learner
        """Return the weights as they are."""
        encoder = SwitchEncoder(
            self.encoder.detach(),
            self.encoder_bias.detach(),
            self.router.detach(),
            self.router_bias.detach(),
            k=min(self.plan.k, self.width),
            experts=self.plan.experts,
            active_experts=self.plan.active_experts,
            always_on=self.plan.always_on,
        )
        return Learned(encoder, self.decoder.detach())

    def _route(self, source: Float[Tensor, "batch source"]) -> Route:
        return route(
            source,
            self.router,
            self.router_bias,
            active=self.plan.active_experts,
            always_on=self.plan.always_on,
        )


def _blocks(
    weight: Float[Tensor, "source component"], bias: Float[Tensor, " component"], experts: int
) -> list[tuple[Tensor, Tensor]]:
    own = bias.numel() // experts
    # By rows of the transpose, so that gradients lie as the weights do.
    pieces = [rows.T for rows in weight.T.split(own)]
    return list(zip(pieces, bias.split(own), strict=True))
