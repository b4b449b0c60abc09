"""How a stochastic parameter decomposition is trained."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

from mad.errors import ConfigError

ImportanceKind: TypeAlias = Literal["scalar", "vector", "shared"]
"""What sees how much a subcomponent is needed: its own inner activation, or the layer's input."""

Penalty: TypeAlias = Literal["lp", "smooth_l0"]
"""What importance costs: its ``p``-th power, or ``g^2 / (g^2 + gamma^2)``."""

Distance: TypeAlias = Literal["mse", "kl"]
"""How outputs are compared: squares of differences, or as logits over the last axis, in nats."""

Schedule: TypeAlias = Literal["constant", "cosine"]

Scope: TypeAlias = Literal["shared", "each"]
"""Whether an adversary has one set of sources for the whole batch, or one for each position."""


@final
@dataclass(frozen=True)
class LayerPlan:
    """A layer to decompose, named as in ``named_modules()``, and into how many subcomponents."""

    name: str
    width: int


@final
@dataclass(frozen=True, kw_only=True)
class SpdPlan:
    """How to train one decomposition (SPD, arXiv:2506.20790; later terms, Bushnaq et al. 2026).

    The loss is the sum of its terms, each times its coefficient; a term of coefficient 0 is not
    computed. With ``g`` an importance, ``r`` and ``d`` uniform on [0, 1] for each input and
    position, subcomponents are multiplied by ``g + (1 - g) r`` and the rest of the matrix by
    ``d``, unless there is no ``delta``. What masked layers do to the output is compared with the
    monitored model's by ``distance``: with all layers masked (``stochastic``), one layer at a time
    (``layerwise``, their mean), as many as drawn for each position (``subset``), or all of them
    with sources ``r`` that an adversary moves to where that hurts most (``adversarial``: kept from
    step to step, ``adversary_steps`` ascents before each descent, by Adam at ``adversary_rate``).

    ``importance_coefficient`` weighs the penalty of importance, per position and summed over
    subcomponents; ``frequency_coefficient`` the same with each subcomponent's sum over the batch
    ``s`` times ``log2(1 + s)``. ``p`` and ``gamma`` go linearly, and geometrically, to ``p_final``
    and ``gamma_final`` between two ``anneal`` fractions of the run, where those are given.

    ``ties`` are pairs of layers that hold one parameter: their subcomponents are shared too, and
    take two steps in one, as each of two parameters would take its own. ``clip`` bounds the norm of
    the gradient of the matrices. ``rate_floor`` is the share of ``rate`` where a cosine ends.
    """

    layers: tuple[LayerPlan, ...]
    ties: tuple[tuple[str, str], ...] = ()
    importance: ImportanceKind = "scalar"
    hidden: int = 16
    importance_coefficient: float = 3e-3
    frequency_coefficient: float = 0.0
    penalty: Penalty = "lp"
    p: float = 1.0
    p_final: float | None = None
    gamma: float = 1.0
    gamma_final: float | None = None
    anneal: tuple[float, float] = (0.0, 1.0)
    stochastic_coefficient: float = 1.0
    layerwise_coefficient: float = 1.0
    subset_coefficient: float = 0.0
    adversarial_coefficient: float = 0.0
    adversary_scope: Scope = "shared"
    adversary_steps: int = 2
    adversary_rate: float = 0.01
    faithfulness_coefficient: float = 0.0
    delta: bool = True
    warm_up_steps: int = 200
    warm_up_rate: float = 0.01
    warm_up_decay: float = 0.1
    rate: float = 1e-3
    rate_floor: float = 0.0
    schedule: Schedule = "cosine"
    clip: float | None = None
    steps: int = 10_000
    batch_size: int = 4_096
    distance: Distance = "mse"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what is wrong whatever the model.

        Raises:
            ConfigError: a number is out of its range, or a layer is named twice.
        """
        names = [layer.name for layer in self.layers]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"layers to decompose are {names}; name at least one, each once")
        at_least_one = {
            "hidden": self.hidden,
            "steps": self.steps,
            "batch_size": self.batch_size,
            **{f"the width of layer {one.name!r}": one.width for one in self.layers},
        }
        for name, value in at_least_one.items():
            if value < 1:
                raise ConfigError(f"{name} is {value}, and must be at least 1")
        above_zero: dict[str, float] = {
            "rate": self.rate,
            "p": self.p,
            "p_final": self.p if self.p_final is None else self.p_final,
            "gamma": self.gamma,
            "gamma_final": self.gamma if self.gamma_final is None else self.gamma_final,
        }
        for name, number in above_zero.items():
            if not (math.isfinite(number) and number > 0):
                raise ConfigError(f"{name} is {number:g}, and must be above 0")
        start, end = self.anneal
        if not 0 <= start <= end <= 1:
            raise ConfigError(f"anneal is {self.anneal}; give two rising fractions of the run")
        if not any(self.outputs):
            raise ConfigError(
                "no term compares outputs: give stochastic, layerwise, subset or adversarial a "
                "coefficient above 0"
            )

    @property
    def outputs(self) -> tuple[float, float, float, float]:
        """Coefficients of the terms that compare outputs."""
        return (
            self.stochastic_coefficient,
            self.layerwise_coefficient,
            self.subset_coefficient,
            self.adversarial_coefficient,
        )

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step, the first of which is 0."""
        if self.schedule == "constant":
            return self.rate
        share = 0.5 * (1 + math.cos(math.pi * step / max(self.steps - 1, 1)))
        return self.rate * (self.rate_floor + (1 - self.rate_floor) * share)

    def p_at(self, step: int) -> float:
        """Return the exponent of the penalty at a step."""
        return self.p if self.p_final is None else _between(self.p, self.p_final, self._way(step))

    def gamma_at(self, step: int) -> float:
        """Return the softness of the smooth L0 at a step."""
        if self.gamma_final is None:
            return self.gamma
        return math.exp(_between(math.log(self.gamma), math.log(self.gamma_final), self._way(step)))

    def _way(self, step: int) -> float:
        start, end = (fraction * self.steps for fraction in self.anneal)
        return min(max((step - start) / max(end - start, 1.0), 0.0), 1.0)


def _between(start: float, end: float, way: float) -> float:
    return start + (end - start) * way
