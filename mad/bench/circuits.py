"""Do alerts find, and name, the gate that a circuit's network should not have used?

Run as ``python -m mad.bench.circuits``. For each seed a circuit is drawn and its network decomposed
from all inputs (``full``), and for each kind of anomaly again from trusted inputs alone
(``trusted``); ``known`` is the decomposition that the truth gives, the ceiling. What ``--out`` has
already is not done again.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final, final, get_args

import torch
from rich.console import Console
from rich.table import Table as Printed

from mad.arrays import Table
from mad.bench.parameters import STAGE, decompose, usual_plan
from mad.bench.report import write_text
from mad.bench.truth.base import AnomalyKind, Truth
from mad.bench.truth.cases import Cases, choose, draw_cases
from mad.bench.truth.circuits import random_circuit
from mad.bench.truth.detecting import Row, Source, measure
from mad.bench.truth.gates import RATE, circuit_truth
from mad.bench.truth.known import Known
from mad.bench.truth.network import handcoded
from mad.components.base import Decomposition
from mad.errors import ConfigError
from mad.fit import FitPlan, split
from mad.fit.plan import SetCodeName
from mad.types import Inputs, Measure, Progress

COLUMNS: Final = (
    *("circuit", "components", "anomaly", "of", "gates found", "its own", "AUROC matched"),
    *("recall at 1 %", "matched", "false alarms", "named", "CPU s"),
)


@final
@dataclass(frozen=True)
class Setting:
    """How much of everything, and what alerts go by."""

    trusted: int = 6_000
    tests: int = 500
    steps: int = 4_000
    by: Measure = "mechanism"
    set_code: SetCodeName = "clusters"


@final
@dataclass
class Sources:
    """The decompositions of one circuit; the one of all inputs is trained once, when first used."""

    truth: Truth
    seed: int
    setting: Setting
    progress: Progress

    def of(self, source: Source, cases: Cases) -> Decomposition:
        """Return where components come from."""
        match source:
            case "known":
                built = handcoded(random_circuit(rate=RATE, seed=self.seed), seed=self.seed)
                return Known.of_circuit(built)
            case "full":
                return self._full
            case "trusted":
                return self._trained(cases.trusted)

    @cached_property
    def _full(self) -> Decomposition:
        generator = torch.Generator().manual_seed(self.seed)
        return self._trained(self.truth.draw(self.setting.trusted, generator))

    def _trained(self, inputs: Inputs) -> Decomposition:
        steps = self.setting.steps
        return trained(self.truth, inputs, steps, seed=self.seed, progress=self.progress)


def rows_of(
    seed: int,
    wanted: Sequence[tuple[AnomalyKind, Source]],
    setting: Setting,
    *,
    progress: Progress,
) -> Iterator[Row]:
    """Measure kinds of anomalies of one circuit, each with a source of components.

    A kind that the circuit has no fair example of is left out.
    """
    truth = circuit_truth(seed=seed)
    sources = Sources(truth, seed, setting, progress)
    for kind in dict.fromkeys(kind for kind, _ in wanted):
        try:
            anomaly = choose(truth, kind, trusted=setting.trusted, seed=seed)
        except ConfigError:
            continue
        cases = draw_cases(truth, anomaly, trusted=setting.trusted, tests=setting.tests, seed=seed)
        for source in (own for of, own in wanted if of == kind):
            yield measure(
                cases,
                sources.of(source, cases),
                source,
                by=setting.by,
                set_code=setting.set_code,
                seed=seed,
                progress=progress,
            )


def trained(
    truth: Truth, inputs: Inputs, steps: int, *, seed: int, progress: Progress
) -> Decomposition:
    """Decompose a truth's layers from some inputs, by the rule of ``mad bench``."""
    data = Table(inputs)
    rows = split(len(data), FitPlan(name="truth", seed=seed))
    usual = usual_plan(truth.model, data, rows, steps=steps, seed=seed)
    layers = tuple(one for one in usual.layers if one.name in truth.layers)
    plan = replace(usual, layers=layers)
    return decompose(truth.model, data, rows.fitting, plan, progress=progress)


def cells(row: Row) -> tuple[str, ...]:
    """Return a row in the order of ``COLUMNS``."""
    return (
        *(str(row.seed), row.source, row.kind, row.anomaly, f"{row.found:.0%}"),
        "yes" if row.culprits_found else "no",
        f"{row.auroc_matched:.3f}",
        *(f"{share:.1%}" for share in (row.recall, row.recall_matched, row.false_alarms)),
        f"{row.named:.1%}",
        f"{row.cpu_seconds:.0f}",
    )


def table(rows: Sequence[Row]) -> str:
    """Return rows as Markdown."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *map(cells, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def kept(path: Path) -> list[Row]:
    """Read the rows that a run before left; none if it left no file.

    Raises:
        ConfigError: the file is of something else.
    """
    if not path.exists():
        return []
    try:
        return [Row(**one) for one in json.loads(path.read_text())]
    except (ValueError, TypeError) as cause:
        raise ConfigError(f"{path} is no file of python -m mad.bench.circuits ({cause})") from cause


def _main(asked: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    done = kept(asked.out) if asked.out else []
    setting = Setting(steps=asked.steps, by=asked.by, set_code=asked.set_code)
    for seed in range(asked.seed, asked.seed + asked.seeds):
        before = {(one.kind, one.source) for one in done if one.seed == seed}
        every = [(kind, source) for kind in asked.kinds for source in asked.sources]
        left = [one for one in every if one not in before]
        for row in rows_of(seed, left, setting, progress=_told):
            done.append(row)
            if asked.out:
                write_text(json.dumps([asdict(one) for one in done], indent=2) + "\n", asked.out)
    printed = Printed(*COLUMNS, title="Gates that should not have been used")
    for row in done:
        printed.add_row(*cells(row))
    Console(width=200).print(printed)
    if asked.table:
        write_text(table(done), asked.table)


def _told(stage: str, *, done: int, total: int, note: str = "") -> None:
    if stage == STAGE and (done % 500 == 0 or done == total):
        told = f"{done:,} of {total:,} steps: {note}"
        Console(stderr=True).print(told, highlight=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m mad.bench.circuits", description=__doc__)
    every_kind, every_source = get_args(AnomalyKind), get_args(Source)
    parser.add_argument("--kinds", nargs="+", choices=every_kind, default=every_kind)
    parser.add_argument("--sources", nargs="+", choices=every_source, default=every_source)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=Setting.steps)
    parser.add_argument("--by", choices=get_args(Measure), default=Setting.by)
    parser.add_argument("--set-code", choices=get_args(SetCodeName), default=Setting.set_code)
    parser.add_argument("--out", type=Path, help="JSON of every row; goes on where it stopped")
    parser.add_argument("--table", type=Path, help="Markdown of every row")
    _main(parser.parse_args())
