"""What a training step of a decomposition costs, in processor time on one thread.

Run as ``python -m mad.bench.decomposition_speed``; with ``--reference-python PYTHON``, that of an
environment with goodfire-ai/spd, the reference implementation's own loop is timed too. All are
timed in turns, so that a busy machine is as busy for each: our compiled steps, the same without a
compiler, and either the reference, in the half precision that it ships with and in single, or else
its formulas as they are written: networks of causal importance by einsum, delta components formed,
every pass from the model's input, and no row left out. What the reference was measured to cost
elsewhere is printed beside, and says nothing of this machine.
"""

import argparse
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
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
from mad.errors import ConfigError

PUBLISHED_MS: Final[Mapping[str, float]] = {"tms_5_2": 61, "tms_40_10": 741, "resid_mlp_1": 199}
"""Processor milliseconds of a step of goodfire-ai/spd (3f0bb61), on one thread of an AMD EPYC."""


@final
@dataclass(frozen=True)
class Cost:
    """Median milliseconds of processor time of a step, by contender; our compiled one is first."""

    model: str
    by: Mapping[str, float]

    @property
    def ratio(self) -> float:
        """The least that others take, in times of ours."""
        ours, _, *others = self.by.values()
        return min(others) / ours


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


@final
class Reference:
    """The reference's training loop, in a process of its own that waits between steps."""

    def __init__(self, python: str, model: str, precision: str) -> None:
        script = Path(__file__).with_name("decomposition_speed_peer.py")
        self._process = subprocess.Popen(  # noqa: S603  # the Python that was named
            [python, str(script), model, precision],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self._answer()

    def milliseconds(self) -> float:
        """Take one step, and return the processor time that it took."""
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        return float(self._answer())

    def close(self) -> None:
        """Let the process end."""
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if not answer:
            self.close()
            raise ConfigError(
                "the reference's process ended; run mad/bench/decomposition_speed_peer.py with its "
                "Python to see why"
            )
        return answer


def cost(
    name: str,
    setting: Setting,
    *,
    steps: int,
    rounds: int = 4,
    reference_python: str | None = None,
) -> Cost:
    """Time steps in turns; the first of each, which compiles, is not counted.

    Raises:
        ConfigError: the reference does not run.
    """
    model = setting.untrained()
    generator = torch.Generator().manual_seed(0)
    batches = [setting.draw(setting.plan.batch_size, generator) for _ in range(8)]
    passes = None if setting.passes is None else setting.passes(model)
    compiled, eager = (
        SpdTraining.begin(model, setting.plan, batches[0], passes=passes, compiled=one)
        for one in (True, False)
    )
    turn = cycle(batches)
    contenders: dict[str, Callable[[], float]] = {
        "compiled": lambda: _milliseconds(compiled.step, next(turn)),
        "eager": lambda: _milliseconds(eager.step, next(turn)),
    }
    with ExitStack() as stack:
        if reference_python is None:
            plain = Plain(model, eager)
            contenders["plain"] = lambda: _milliseconds(plain.step, next(turn))
        else:
            for precision in ("bf16", "fp32"):
                reference = Reference(reference_python, name, precision)
                stack.callback(reference.close)
                contenders[f"reference, {precision}"] = reference.milliseconds
        for one in contenders.values():
            one()
        times: dict[str, list[float]] = {one: [] for one in contenders}
        for _ in range(rounds):
            for who, one in contenders.items():
                times[who] += [one() for _ in range(steps // rounds)]
    return Cost(name, {who: median(taken) for who, taken in times.items()})


def _milliseconds(step: Callable[[Tensor], object], batch: Tensor) -> float:
    before = time.process_time()
    step(batch)
    return 1e3 * (time.process_time() - before)


def main() -> None:
    """Time what is asked for, and print a row for each model."""
    parser = argparse.ArgumentParser(
        prog="python -m mad.bench.decomposition_speed", description=__doc__
    )
    parser.add_argument(
        "--model", nargs="+", choices=tuple(PUBLISHED_MS), default=tuple(PUBLISHED_MS)
    )
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--reference-python", help="Python of an environment with goodfire-ai/spd")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    python = asked.reference_python
    others = ("plain",) if python is None else ("reference, bf16", "reference, fp32")
    heads = ("model", "compiled", "eager", *others, "least of others / compiled", "published")
    printed = Printed(*heads, title="Processor milliseconds of a step, one thread")
    for chosen in asked.model:
        found = cost(chosen, SETTINGS[chosen], steps=asked.steps, reference_python=python)
        ms = (f"{one:.1f}" for one in found.by.values())
        printed.add_row(chosen, *ms, f"{found.ratio:.1f}", f"{PUBLISHED_MS[chosen]:g}, elsewhere")
    Console(width=140).print(printed)


if __name__ == "__main__":
    main()
