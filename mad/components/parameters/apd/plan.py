"""How an attribution-based parameter decomposition is trained."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

from mad.errors import ConfigError

Selection: TypeAlias = Literal["batch", "input"]
"""Whether the largest attributions are taken over a whole batch, or for each input by itself."""

Attributed: TypeAlias = Literal["model", "components"]
"""Whether attributions are slopes of the model's own run, or of a run of all components together.

They are the same once components are faithful. The paper's code takes the second for the toy
model of superposition and the first for others.
"""

Schedule: TypeAlias = Literal["constant", "cosine"]


@final
@dataclass(frozen=True, kw_only=True)
class HiddenPlan:
    """A term that compares what layers return, through a ReLU if the model has one behind them."""

    layers: tuple[str, ...]
    coefficient: float = 1.0
    relu: bool = True


@final
@dataclass(frozen=True, kw_only=True)
class ApdPlan:
    """How to train one decomposition; numbers are named as in appendix C of the paper.

    Each of ``components`` has, in each of ``layers``, a matrix of rank ``rank`` at most; without it
    of full rank. In training an input uses ``active`` components on average: the largest
    attributions over the batch, or for each input by itself. The loss is the sum of
    ``faithfulness`` (what all components miss of the weights), ``minimality`` (what those that are
    used miss of the output), ``simplicity`` (the Schatten norm, to the power ``p``, of those that
    are used) and ``hidden``, each times its coefficient.

    ``ties`` are pairs of layers that hold one parameter, as in ``SpdPlan``. With ``unit_norm`` the
    columns of every ``a`` are kept at length one. The rate rises over the share ``warm_up``. So
    many first draws as ``starts`` are tried, of which one is trained to the end.
    """

    layers: tuple[str, ...]
    components: int
    active: float
    ties: tuple[tuple[str, str], ...] = ()
    rank: int | None = None
    selection: Selection = "batch"
    attributed: Attributed = "model"
    faithfulness_coefficient: float = 1.0
    minimality_coefficient: float = 1.0
    simplicity_coefficient: float = 0.7
    p: float = 1.0
    hidden: HiddenPlan | None = None
    unit_norm: bool = False
    rate: float = 3e-2
    schedule: Schedule = "constant"
    warm_up: float = 0.05
    steps: int = 20_000
    batch_size: int = 2_048
    starts: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what is wrong whatever the model.

        Raises:
            ConfigError: a number is out of its range, or a layer is named twice.
        """
        if not self.layers or len(set(self.layers)) < len(self.layers):
            raise ConfigError(
                f"layers to decompose are {list(self.layers)}; name at least one, each once"
            )
        counts = {"components": self.components, "steps": self.steps, "rank": self.rank or 1}
        counts |= {"batch_size": self.batch_size, "starts": self.starts}
        for name, value in counts.items():
            if value < 1:
                raise ConfigError(f"{name} is {value}, and must be at least 1")
        for name, number in {"rate": self.rate, "p": self.p}.items():
            if not (math.isfinite(number) and number > 0):
                raise ConfigError(f"{name} is {number:g}, and must be above 0")
        if not 0 <= self.warm_up < 1:
            raise ConfigError(f"warm_up is {self.warm_up:g}, and is a share of the run below 1")
        self._check_active()

    def _check_active(self) -> None:
        least = 1 if self.selection == "input" else 1 / self.batch_size
        is_whole = self.active == int(self.active) if math.isfinite(self.active) else False
        if not least <= self.active <= self.components or (
            self.selection == "input" and not is_whole
        ):
            raise ConfigError(
                f"active is {self.active:g}, and must be from {least:g} to the {self.components} "
                "components; a whole number where each input is looked at by itself"
            )
        if self.hidden is not None and not set(self.hidden.layers) <= set(self.layers):
            raise ConfigError(
                f"hidden.layers has {list(self.hidden.layers)}, which are not all among the layers "
                f"{list(self.layers)}"
            )

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step, the first of which is 0."""
        rising = int(self.steps * self.warm_up)
        if step < rising:
            return self.rate * step / rising
        if self.schedule == "constant":
            return self.rate
        way = (step - rising) / max(self.steps - rising - 1, 1)
        return self.rate * 0.5 * (1 + math.cos(math.pi * way))
