"""``mad report diff``: what has moved, on the terminal, on a page and as JSON."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mad.baseline.store import BaselineStore
from mad.components.parameters.files import load_parameters
from tests.cli.conftest import SETTINGS, Mad, write_deployment
from tests.cli.test_convert_parameters import run_of
from tests.cli.test_report_pages import page_of, rows_of
from tests.worlds import tiny_module

PARAMETERS = SETTINGS.replace(
    'sites = ["1", "3"]\nwidth = 32\nk = 4\nsteps = 60\n',
    'path = "decomposition"\n[decomposition.parameters]\nlayers = ["0"]\ncomponents = 8\n',
)


@pytest.fixture
def deployed(tmp_path: Path, fitted: Path) -> Path:
    return shutil.copytree(fitted.parent, tmp_path / "deployed") / "mad.toml"


def test_two_baselines_on_the_terminal_on_a_page_and_as_json(
    tmp_path: Path, mad: Mad, deployed: Path
) -> None:
    store = BaselineStore(deployed.parent / "baselines")
    store.save(store.load("default"), activate=False)
    html, out = tmp_path / "d.html", tmp_path / "d.json"
    asked = ("default@1", "default@2", "--config", deployed, "--html", html, "--out", out)
    done = mad("report", "diff", *asked, "--top", "3")
    assert done.code == 0, done.err
    assert "the same inputs cost 0 bits more by default@2" in done.out
    assert "The 3 that moved most" in done.out
    words = rows_of(page_of(html))
    assert {"default@1 and default@2", "Components that moved", "beyond chance"} <= set(words)
    figures = json.loads(out.read_text())
    assert (figures["compared"], set(figures["views"])) == ("baselines", {"1", "3"})


def test_another_checkpoint_of_the_model(tmp_path: Path, mad: Mad, deployed: Path) -> None:
    tuned = tmp_path / "tuned.safetensors"
    save_file(tiny_module(seed=9).state_dict(), tuned)
    out = tmp_path / "d.json"
    done = mad("report", "diff", "--config", deployed, "--weights", tuned, "--out", out)
    assert done.code == 0, done.err
    assert "through model.safetensors and tuned.safetensors" in done.out
    figures = json.loads(out.read_text())
    assert figures["compared"] == "models"
    assert all(one["rates_beyond_chance_bits"] > 0 for one in figures["views"].values())


@pytest.mark.slow
def test_a_decomposition_that_was_imported_says_what_changed_in_the_weights(
    tmp_path: Path, mad: Mad
) -> None:
    """Tuning doubled the second piece of the layer: all of the difference, and nothing besides."""
    config = write_deployment(tmp_path, PARAMETERS)
    run = run_of(tmp_path / "run")
    ours = tmp_path / "decomposition"
    done = mad("convert", run, ours, "--from", "spd", "--config", config, "--pooling", "mean")
    assert done.code == 0, done.err
    done = mad("fit", config)
    assert done.code == 0, done.err
    pieces = load_parameters(ours).layers[0].parts
    state = tiny_module().state_dict()
    state["0.weight"] += torch.outer(pieces.u[1], pieces.v[:, 1])
    save_file(state, tmp_path / "tuned.safetensors")
    out = tmp_path / "d.json"
    tuned = tmp_path / "tuned.safetensors"
    done = mad("report", "diff", "--config", config, "--weights", tuned, "--out", out)
    assert done.code == 0, done.err
    found = json.loads(out.read_text())["weights"]["0"]
    assert found["factors"] == pytest.approx([0, 1, 0, 0, 0, 0, 0, 0], abs=1e-4)
    assert found["explained"] == pytest.approx(1.0)
    assert "account for 100 % of it" in done.out


@pytest.mark.parametrize("asked", [("default",), ("default", "default", "--weights", "w")])
def test_one_baseline_or_too_much_is_refused(
    asked: tuple[str, ...], mad: Mad, fitted: Path
) -> None:
    done = mad("report", "diff", *asked, "--config", fitted)
    assert done.code == 2
    assert "name two baselines, such as default@3 default@4, or --weights" in done.err


def test_a_place_that_is_not_there_is_refused_before_the_work(
    tmp_path: Path, mad: Mad, fitted: Path
) -> None:
    asked = ("default@1", "default@1", "--config", fitted, "--html", tmp_path / "no" / "a.html")
    done = mad("report", "diff", *asked)
    assert done.code == 2
    assert "there is no directory" in done.err
