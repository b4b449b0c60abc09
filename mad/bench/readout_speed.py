"""What reading active sets of a parameter decomposition costs beside the layers it is of.

    python -m mad.bench.readout_speed                      layers of toys, and of a transformer
    python -m mad.bench.readout_speed --config mad.toml    the decomposition of a deployment
    python -m mad.bench.readout_speed --trained DIRECTORY  what mad.bench.decomposition trained

CPU seconds of one process, on one thread: the layers' own products, active sets by thresholds and
by the networks themselves, and the whole activity with its residual. Times of one run alternate.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from mad.bench.decomposition import kept_pieces
from mad.bench.decomposition_settings import SETTINGS
from mad.capture.hooks import capture
from mad.capture.model import MonitoredModel
from mad.components.parameters.decomposition import ParameterDecomposition
from mad.components.parameters.importance import ScalarImportance
from mad.components.parameters.layers import matrix_layer
from mad.components.parameters.masked import pieces_of
from mad.components.parameters.subcomponents import Subcomponents
from mad.deployment import Deployment
from mad.errors import ConfigError
from mad.types import Activations

BATCH: Final = 256
HIDDEN: Final = 16
_ROUNDS: Final = 5


@final
@dataclass(frozen=True)
class Layers:
    """Layers of these sizes, source and target, each with as many subcomponents."""

    name: str
    sizes: tuple[tuple[int, int], ...]
    components: int


CASES: Final = (
    Layers("TMS 5-2", ((5, 2), (2, 5)), 20),
    Layers("TMS 40-10", ((40, 10), (10, 40)), 200),
    Layers("ResidMLP-1", ((1000, 50), (50, 1000)), 100),
    Layers("MLP of 768", ((768, 3072), (3072, 768)), 768),
)


@final
@dataclass(frozen=True)
class ReadOutCost:
    """CPU microseconds a batch of 256, and the least agreement of a layer's sets with exact ones.

    ``active`` is the share of subcomponents that are active.
    """

    name: str
    layers: float
    thresholds: float
    networks: float
    activity: float
    agreement: float
    active: float


def measure(
    name: str,
    model: nn.Module,
    decomposition: ParameterDecomposition,
    activations: Activations,
    *,
    seconds: float = 0.1,
) -> ReadOutCost:
    """Time one decomposition on the activations of a batch, each part so long in each round.

    Raises:
        ConfigError: importance of a layer is not of the scalar kind, which alone has thresholds.
    """
    for layer in decomposition.layers:
        if not isinstance(layer.parts.importance, ScalarImportance):
            raise ConfigError(
                f"importance of layer {layer.name!r} is of the {layer.parts.importance.kind} kind, "
                "which has no thresholds to compare with; name a decomposition of the scalar kind"
            )
    modules = {f"{one.name}<": model.get_submodule(one.name) for one in decomposition.layers}

    def layers() -> list[Tensor]:
        return [module(activations[site]) for site, module in modules.items()]

    def networks() -> Mapping[str, Tensor]:
        return {
            one.name: one.parts.importance.logits(
                one.parts.layer.inner(activations[f"{one.name}<"].float(), one.parts.v), None
            )
            > decomposition.threshold
            for one in decomposition.layers
        }

    with torch.no_grad():
        found, exact = decomposition.active(activations), networks()
        works: Sequence[Callable[[], object]] = (
            layers,
            lambda: decomposition.active(activations),
            networks,
            lambda: decomposition.activity(activations),
        )
        own, thresholds, exactly, whole = _microseconds(works, seconds)
    return ReadOutCost(
        name=name,
        layers=own,
        thresholds=thresholds,
        networks=exactly,
        activity=whole,
        agreement=min(float((found[one] == exact[one]).float().mean()) for one in found),
        active=float(torch.cat([one.flatten() for one in found.values()]).float().mean()),
    )


def drawn(case: Layers) -> tuple[nn.Module, ParameterDecomposition, Activations]:
    """Draw layers, pieces, networks and a batch; about a twelfth of the pieces are active."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    model = nn.ModuleDict({f"layer{n}": nn.Linear(*size) for n, size in enumerate(case.sizes)})
    parts, c = [], case.components
    activations = {}
    for name, (source, target) in zip(model, case.sizes, strict=True):
        networks = ScalarImportance(
            2**0.5 * draw(c, HIDDEN),
            torch.zeros(c, HIDDEN),
            draw(c, HIDDEN) / HIDDEN**0.5,
            torch.full((c,), -1.0),
        )
        v, u = draw(source, c) / source**0.5, draw(c, target) / c**0.5
        parts.append(Subcomponents(matrix_layer(model, name), v, u, networks))
        activations[f"{name}<"] = draw(BATCH, source)
        activations[name] = model[name](activations[f"{name}<"]).detach()
    return model, ParameterDecomposition.of(model, parts), activations


def deployed(config: Path) -> tuple[nn.Module, ParameterDecomposition, Activations]:
    """Return what a deployment watches, on as many of its trusted inputs; ConfigError if none."""
    deployment = Deployment.load(config)
    decomposition = pieces_of(deployment.decomposition())
    if decomposition is None:
        raise ConfigError(f"{config} asks for dictionaries; name one that takes layers apart")
    data = deployment.trusted()
    inputs = data.take(torch.arange(min(BATCH, len(data))))
    run = capture(deployment.model, decomposition.sites, inputs)
    return deployment.model.module, decomposition, run.activations


def trained(
    directory: Path,
) -> Iterator[tuple[str, nn.Module, ParameterDecomposition, Activations]]:
    """Return each model that ``mad.bench.decomposition`` keeps there, on a batch of its inputs.

    Raises:
        ConfigError: the directory has no state of such a run.
    """
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise ConfigError(
            f"{directory} has no states of trainings; name the --out of mad.bench.decomposition"
        )
    for file in files:
        name, seed, _ = file.stem.rsplit("-", 2)
        model, pieces = kept_pieces(SETTINGS[name], int(seed), file)
        inputs = SETTINGS[name].draw(BATCH, torch.Generator().manual_seed(0))
        decomposition = ParameterDecomposition.of(model, pieces)
        monitored = MonitoredModel.of(model, name=name, inputs=("features",))
        run = capture(monitored, decomposition.sites, {"features": inputs})
        yield file.stem, model, decomposition, run.activations


def show(costs: Sequence[ReadOutCost], console: Console) -> None:
    """Print one row a decomposition."""
    names = ("layers of", "their own us", "thresholds", "networks", "whole activity", "agreement")
    printed = Table(*names, title=f"CPU time of a batch of {BATCH}, in times of the layers' own")
    for one in costs:
        ratios = (f"{t / one.layers:.2f}" for t in (one.thresholds, one.networks, one.activity))
        printed.add_row(one.name, f"{one.layers:.1f}", *ratios, f"{one.agreement:.4f}")
    console.print(printed)


def _microseconds(works: Sequence[Callable[[], object]], seconds: float) -> list[float]:
    """Return the least CPU time of each, over rounds in which they take turns."""
    counts = []
    for work in works:
        start, count = time.process_time(), 0
        while time.process_time() - start < seconds:
            work()
            count += 1
        counts.append(count)
    best = [float("inf")] * len(works)
    for _ in range(_ROUNDS):
        for place, (work, count) in enumerate(zip(works, counts, strict=True)):
            start = time.process_time()
            for _ in range(count):
                work()
            best[place] = min(best[place], 1e6 * (time.process_time() - start) / count)
    return best


def main() -> None:
    """Measure every case, or a deployment's own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, help="settings of a deployment")
    parser.add_argument("--trained", type=Path, help="the --out of mad.bench.decomposition")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.trained is not None:
        costs = [measure(*one) for one in trained(asked.trained)]
    elif asked.config is not None:
        costs = [measure(asked.config.name, *deployed(asked.config))]
    else:
        costs = [measure(case.name, *drawn(case)) for case in CASES]
    show(costs, Console(width=110))


if __name__ == "__main__":
    main()
