"""The reference implementation's own training loop, in an environment of its own, step by step.

Run by ``mad.bench.decomposition_speed`` with the Python of an environment that has goodfire-ai/spd.
It imports nothing of ours. The loop, ``spd.run_spd.optimize`` under the configuration that the
package ships for the model, takes its batches from here: when it asks for the next one, the last
step is over. A line on standard input is answered with the milliseconds of processor time of one
step; drawing a batch is not counted, and nothing is evaluated or saved between steps.

Its published targets are not in the package, so the model's weights are drawn: a step's cost does
not depend on them.
"""

import contextlib
import importlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO, final

import torch
from torch import Tensor, nn

FILES = {
    "tms_5_2": "tms/tms_5-2_config.yaml",
    "tms_40_10": "tms/tms_40-10_config.yaml",
    "resid_mlp_1": "resid_mlp/resid_mlp1_config.yaml",
}
SIZES = {"tms_5_2": (5, 2), "tms_40_10": (40, 10), "resid_mlp_1": (100, 50)}
STREAM = 1_000
RATE = {"tms_5_2": 0.05, "tms_40_10": 0.05, "resid_mlp_1": 0.01}


@final
class Batches:
    """A loader whose batches are asked for by lines, and which answers what the last one took."""

    def __init__(self, draw: Callable[[], Tensor], asked: TextIO, answers: TextIO) -> None:
        self._draw = draw
        self._asked = asked
        self._answers = answers
        self.generator = torch.Generator()

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches until nobody asks."""
        # The loop looks at one batch before its first step, and its first step logs.
        for _ in range(2):
            batch = self._draw()
            yield batch, batch
        print("ready", file=self._answers, flush=True)
        for _ in self._asked:
            batch = self._draw()
            start = time.process_time()
            yield batch, batch
            taken = 1e3 * (time.process_time() - start)
            print(f"{taken:.3f}", file=self._answers, flush=True)
        sys.exit(0)


def target(name: str) -> tuple[nn.Module, list[tuple[str, str]] | None]:
    """Return the package's own model, and which layers share a parameter."""
    features, narrow = SIZES[name]
    if name.startswith("tms"):
        models = importlib.import_module("spd.experiments.tms.models")
        configs = importlib.import_module("spd.experiments.tms.configs")
        config = configs.TMSModelConfig(
            n_features=features,
            n_hidden=narrow,
            n_hidden_layers=0,
            tied_weights=True,
            init_bias_to_zero=False,
            device="cpu",
        )
        return models.TMSModel(config), [("linear1", "linear2")]
    models = importlib.import_module("spd.experiments.resid_mlp.models")
    configs = importlib.import_module("spd.experiments.resid_mlp.configs")
    config = configs.ResidMLPModelConfig(
        n_features=features,
        d_embed=STREAM,
        d_mlp=narrow,
        n_layers=1,
        act_fn_name="relu",
        in_bias=False,
        out_bias=False,
    )
    return models.ResidMLP(config), None


def drawing(name: str, rows: int) -> Callable[[], Tensor]:
    """Return what draws batches of sparse features."""
    generator = torch.Generator().manual_seed(0)
    shape = rows, SIZES[name][0]

    def draw() -> Tensor:
        numbers, on = (torch.rand(shape, generator=generator) for _ in range(2))
        numbers = numbers if name.startswith("tms") else 2 * numbers - 1
        return numbers * (on < RATE[name])

    return draw


def main(name: str, precision: str) -> None:
    """Train until nobody asks for a step."""
    torch.set_num_threads(1)
    answers = sys.stdout
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        os.environ["SPD_OUT_DIR"] = folder  # made when the package is imported
        run = importlib.import_module("spd.run_spd")
        configs: Any = importlib.import_module("spd.configs")
        experiments = importlib.import_module("spd.experiments")
        file = Path(next(iter(experiments.__path__))) / FILES[name]
        shipped = configs.Config.from_file(file)
        changes = {
            "autocast_bf16": precision == "bf16",
            "eval_metric_configs": [],
            "eval_freq": shipped.steps,
            "slow_eval_freq": shipped.steps,
            "train_log_freq": shipped.steps,
            "wandb_project": None,
        }
        config = configs.Config.model_validate({**shipped.model_dump(), **changes})
        model, ties = target(name)
        draw = drawing(name, config.batch_size)
        batches = Batches(draw, sys.stdin, answers)
        run.optimize(
            target_model=model,
            config=config,
            device="cpu",
            train_loader=batches,
            eval_loader=[(draw(), draw())],
            n_eval_steps=1,
            out_dir=Path(folder),
            tied_weights=ties,
        )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
