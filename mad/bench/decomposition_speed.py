"""What a training step of a decomposition costs, in processor time on one thread.

Run as ``python -m mad.bench.decomposition_speed``. Three are timed in turns, so that a busy machine
is as busy for each: our compiled steps, the same without a compiler, and the formulas as the
reference implementation (goodfire-ai/spd) has them: networks of causal importance by einsum, delta
components formed, every pass from the model's input, and no row left out. The reference itself is
not run: what its steps were measured to cost elsewhere is printed beside, and says nothing of this
machine.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Final, final

import torch
from rich.console import Console
from rich.table import Table as Printed
from torch import Tensor, nn
from torch.nn import functional

from mad.bench.decomposition_settings import SETTINGS, Setting
from mad.components.parameters.importance import ScalarImportance
from mad.components.parameters.layers import matrix_of
from mad.components.parameters.sigmoids import lower_leaky, upper_leaky
from mad.components.parameters.subcomponents import Subcomponents
from mad.components.parameters.training.training import SpdTraining

PUBLISHED_MS: Final[Mapping[str, float]] = {"tms_5_2": 61, "tms_40_10": 741, "resid_mlp_1": 199}
"""Processor milliseconds of a step of goodfire-ai/spd (3f0bb61), on one thread of an AMD EPYC."""


@final
@dataclass(frozen=True)
class Cost:
    """Median milliseconds of processor time of a step."""

    model: str
    compiled: float
    eager: float
    plain: float


@final
class Plain:
    """Steps as the formulas are written, on the pieces that a training begins with."""

    def __init__(self, model: nn.Module, training: SpdTraining) -> None:
        self._model = model
        self._plan = training.plan
        self._pieces = [
            replace(one, v=one.v.clone().requires_grad_(), u=one.u.clone().requires_grad_())
            for one in training.finish()
        ]
        self._given: dict[str, Tensor] = {}
        self._masks: dict[str, tuple[Tensor, Tensor]] = {}
        for piece in self._pieces:
            module = model.get_submodule(piece.layer.name)
            module.register_forward_hook(self._hook(piece))
        self._parameters = [tensor for piece in self._pieces for tensor in _tensors(piece)]
        for one in self._parameters:
            one.requires_grad_()
        self._optimiser = torch.optim.AdamW(self._parameters, lr=self._plan.rate, weight_decay=0.0)

    def step(self, batch: Tensor) -> None:
        """Take one step."""
        self._optimiser.zero_grad()
        with torch.no_grad():
            wanted = self._model(batch)
        given = dict(self._given)
        logits = {one.layer.name: _logits(one, given[one.layer.name]) for one in self._pieces}
        names = list(logits)
        missed = [
            (self._output(batch, logits, masked) - wanted).square().mean()
            for masked in (names, *([name] for name in names))
        ]
        costs = [upper_leaky(one).add(1e-12).pow(self._plan.p).sum() for one in logits.values()]
        loss = missed[0] + sum(missed[1:]) / len(names)
        loss = loss + self._plan.importance_coefficient * sum(costs) / len(batch)
        loss.backward()
        self._optimiser.step()

    def _output(self, batch: Tensor, logits: Mapping[str, Tensor], masked: Sequence[str]) -> Tensor:
        for name in masked:
            importance = lower_leaky(logits[name])
            mask = importance + (1 - importance) * torch.rand_like(importance)
            self._masks[name] = mask, torch.rand(len(batch))
        output: Tensor = self._model(batch)
        self._masks.clear()
        return output

    def _hook(self, piece: Subcomponents) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
        name, matrix = piece.layer.name, matrix_of(self._model, piece.layer)

        def hook(module: nn.Module, given: tuple[Tensor], returned: Tensor) -> Tensor:
            (rows,) = given
            if name not in self._masks:
                self._given[name] = rows
                return returned
            mask, share = self._masks[name]
            delta = matrix - piece.v @ piece.u
            out = ((rows @ piece.v) * mask) @ piece.u + share[:, None] * (rows @ delta)
            bias = getattr(module, "bias", None)
            return out if bias is None else out + bias

        return hook


def _tensors(piece: Subcomponents) -> list[Tensor]:
    network = piece.importance
    assert isinstance(network, ScalarImportance)
    return [piece.v, piece.u, network.w_in, network.b_in, network.w_out, network.b_out]


def _logits(piece: Subcomponents, rows: Tensor) -> Tensor:
    _, _, w_in, b_in, w_out, b_out = _tensors(piece)
    inner = (rows @ piece.v).unsqueeze(-1)
    hidden = functional.gelu(torch.einsum("bci,cih->bch", inner, w_in.unsqueeze(1)) + b_in)
    return torch.einsum("bch,cho->bco", hidden, w_out.unsqueeze(-1)).squeeze(-1) + b_out


def cost(name: str, setting: Setting, *, steps: int, rounds: int = 4) -> Cost:
    """Time steps in turns; the first of each, which compiles, is not counted."""
    model, _ = setting.target(0)
    generator = torch.Generator().manual_seed(0)
    batches = [setting.draw(setting.plan.batch_size, generator) for _ in range(8)]
    passes = None if setting.passes is None else setting.passes(model)
    compiled, eager = (
        SpdTraining.begin(model, setting.plan, batches[0], passes=passes, compiled=one)
        for one in (True, False)
    )
    contenders: list[Callable[[Tensor], object]] = [
        compiled.step,
        eager.step,
        Plain(model, eager).step,
    ]
    times: list[list[float]] = [[] for _ in contenders]
    for one in contenders:
        one(batches[0])
    for _ in range(rounds):
        for one, taken in zip(contenders, times, strict=True):
            for number in range(steps // rounds):
                before = time.process_time()
                one(batches[number % len(batches)])
                taken.append(1e3 * (time.process_time() - before))
    return Cost(name, *(median(taken) for taken in times))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m mad.bench.decomposition_speed", description=__doc__
    )
    parser.add_argument(
        "--model", nargs="+", choices=tuple(PUBLISHED_MS), default=tuple(PUBLISHED_MS)
    )
    parser.add_argument("--steps", type=int, default=40)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    heads = ("model", "compiled ms", "eager ms", "plain ms", "plain / compiled", "published ms")
    printed = Printed(*heads, title="Processor time of a step, one thread")
    for chosen in asked.model:
        found = cost(chosen, SETTINGS[chosen], steps=asked.steps)
        ours = (f"{one:.1f}" for one in (found.compiled, found.eager, found.plain))
        ratio = f"{found.plain / found.compiled:.1f}"
        printed.add_row(chosen, *ours, ratio, f"{PUBLISHED_MS[chosen]:g}, elsewhere")
    Console(width=120).print(printed)
