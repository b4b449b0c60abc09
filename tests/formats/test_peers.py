"""The libraries themselves: their new checkpoints are read, and load what we write.

They live in an environment of their own, which ``make peers`` makes.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.look import Look
from mad.components.dictionaries.plan import DictionaryPlan, Kind
from mad.components.dictionaries.train import train
from mad.components.formats.hooks import module_of
from mad.tensors import read_tensors
from tests.formats.cases import Case, cases, computed, distance, layouts_for

ROOT = Path(__file__).parents[2]
PEERS = ROOT / ".venv/peers"
PYTHON = os.environ.get("MAD_PEERS_PYTHON", str(PEERS / "bin/python"))
# Sums of 96 products of numbers of a few units, in another order.
NEAR = 1e-5

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        "MAD_PEERS_PYTHON" not in os.environ and not (PEERS / "ready").exists(),
        reason="the libraries are missing: make peers",
    ),
]


def run(module: str, *arguments: str) -> None:
    """Run a module of ours by the libraries' own Python."""
    command = [PYTHON, "-m", f"tests.formats.peers.{module}", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2_000:]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    root = tmp_path_factory.mktemp("made")
    run("make", str(root), "--large")
    return cases(root)


def by_libraries(jobs: dict[str, tuple[str, Path, Path, str]], directory: Path) -> dict[str, Path]:
    """Compute with the libraries; jobs are library, checkpoint, vectors and site, by name."""
    outputs = {name: directory / f"{number}.safetensors" for number, name in enumerate(jobs)}
    listed = [
        [library, str(path), str(vectors), site, str(outputs[name])]
        for name, (library, path, vectors, site) in jobs.items()
    ]
    (directory / "jobs.json").write_text(json.dumps(listed))
    run("compute", str(directory / "jobs.json"))
    return outputs


def can_load(layout: str) -> bool:
    return layout != "openai" or "MAD_OPENAI_SAE" in os.environ


def test_new_checkpoints_are_read_as_the_libraries_compute_them(made: list[Case]) -> None:
    misses = {
        case.name: distance(computed(case.read(), case.vectors), case.expected) for case in made
    }
    assert {name: miss for name, miss in misses.items() if miss >= NEAR} == {}
    assert len(misses) >= 29


def test_the_libraries_load_what_we_write_and_compute_the_same(
    made: list[Case], tmp_path: Path
) -> None:
    jobs, expected = {}, {}
    for case in made:
        dictionary = case.read()
        site = dictionary.look.reads[0]
        for layout, path in layouts_for(dictionary, tmp_path / case.name).items():
            if can_load(layout):
                name = f"{case.name} as {layout}"
                checkpoint = path.parent if layout == "openai" else path
                jobs[name] = (layout, checkpoint, case.root / "vectors.safetensors", site)
                expected[name] = case.expected
    outputs = by_libraries(jobs, tmp_path)
    misses = {name: distance(read_tensors(path), expected[name]) for name, path in outputs.items()}
    assert {name: miss for name, miss in misses.items() if miss >= NEAR} == {}
    assert len(misses) >= 50


OURS: tuple[Kind, ...] = ("topk", "relu", "gated", "jumprelu", "batch_topk", "matryoshka")


@pytest.mark.parametrize("transcodes", [False, True])
def test_the_libraries_load_what_we_train(
    transcodes: bool, made: list[Case], tmp_path: Path
) -> None:
    vectors = made[0].vectors
    reads, site = "transformer.h.1.mlp<", "transformer.h.1.mlp"
    look = Look((reads,), (site,), "last") if transcodes else Look.at(site, "last")
    jobs, expected = {}, {}
    for kind in OURS:
        dictionary = trained(look, vectors, kind)
        for layout, path in layouts_for(dictionary, tmp_path / kind).items():
            if can_load(layout):
                checkpoint = path.parent if layout == "openai" else path
                file = made[0].root / "vectors.safetensors"
                jobs[f"{kind} as {layout}"] = (layout, checkpoint, file, look.reads[0])
                expected[f"{kind} as {layout}"] = computed(dictionary, vectors)
    outputs = by_libraries(jobs, tmp_path)
    misses = {name: distance(read_tensors(path), expected[name]) for name, path in outputs.items()}
    assert {name: miss for name, miss in misses.items() if miss >= NEAR} == {}
    assert {name.split()[0] for name in misses} >= ({"topk"} if transcodes else set(OURS))


def trained(look: Look, vectors: dict[str, Tensor], kind: Kind) -> Dictionary:
    plan = DictionaryPlan(kind=kind, width=96, k=8, steps=30, batch_size=64, pooling="last")
    return train(look, look.examples(vectors), plan, step_done=lambda _step, _figures: None)


def test_hooks_and_sites_see_the_same_vectors(tmp_path: Path) -> None:
    run("hooked", str(tmp_path / "seen.safetensors"))
    seen = read_tensors(tmp_path / "seen.safetensors")
    names = {name.partition(" ")[2] for name in seen}
    hooks = {name for name in names if name.startswith("blocks.")}
    for hook in hooks:
        site = module_of(hook, "gpt2")
        assert torch.allclose(seen[f"lens {hook}"], seen[f"hugging {site}"], atol=NEAR), hook
    assert len(hooks) >= 8
