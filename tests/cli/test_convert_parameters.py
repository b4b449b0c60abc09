"""``mad convert``: runs of goodfire-ai/spd become decompositions of ours, and go back."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mad.components.parameters.apd.files import load_components
from mad.components.parameters.files import load_parameters
from mad.fit.counted import load_counts
from tests.cli.conftest import Mad
from tests.worlds import tiny_module


def run_of(folder: Path) -> Path:
    """Write a run that decomposed the first layer of the deployment's model, to its rank of 8."""
    model = tiny_module()
    weight = model.get_parameter("0.weight").detach()
    left, values, right = torch.linalg.svd(weight.T, full_matrices=False)
    state: dict[str, Tensor] = {
        f"target_model.{key}": one for key, one in model.state_dict().items()
    }
    state |= {"_components.0.V": left * values, "_components.0.U": right}
    for key, shape in {"0.W": (8, 1, 3), "0.b": (8, 3), "2.W": (8, 3, 1), "2.b": (8, 1)}.items():
        state[f"_ci_fns.0.layers.{key}"] = torch.ones(shape)
    folder.mkdir()
    torch.save(state, folder / "model_5.pth")
    (folder / "final_config.yaml").write_text("ci_fn_type: mlp\nsigmoid_type: leaky_hard\n")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return run_of(tmp_path / "run")


def test_a_run_becomes_a_decomposition_of_the_monitored_model(
    run: Path, tmp_path: Path, mad: Mad, fitted: Path
) -> None:
    out = tmp_path / "ours"
    done = mad("convert", run, out, "--from", "spd", "--config", fitted, "--threshold", "0.25")
    assert done.code == 0, done.err
    assert "8 subcomponents of 0, which leave" in done.out
    assert "what it was trained on is unknown" in done.out
    found = load_parameters(out)
    found.check_model(tiny_module())
    assert (found.threshold, found.pooling) == (0.25, "last")
    assert found.layers[0].missed < 1e-6


def test_its_own_weights_do_where_the_model_is_not_at_hand(
    run: Path, tmp_path: Path, mad: Mad
) -> None:
    out = tmp_path / "ours"
    assert mad("convert", run, out, "--from", "spd", "--pooling", "mean").code == 0
    load_parameters(out).check_model(tiny_module())


def test_a_decomposition_goes_back_as_it_came(
    run: Path, tmp_path: Path, mad: Mad, fitted: Path
) -> None:
    ours, away = tmp_path / "ours", tmp_path / "away"
    mad("convert", run, ours, "--from", "spd")
    done = mad("convert", ours, away, "--from", "mad", "--to", "spd", "--config", fitted)
    assert done.code == 0, done.err
    came, went = (
        torch.load(path, weights_only=True) for path in (run / "model_5.pth", away / "model_0.pth")
    )
    assert came.keys() | {"_components.0.bias"} == went.keys()
    assert all(torch.equal(went[key], one) for key, one in came.items())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--from", "spd", "--to", "saelens"), "cannot be converted from spd to saelens"),
        (("--from", "spd", "--pooling", "max"), "pooling 'max' is none of mean, last"),
        (("--from", "spd", "--to", "spd"), "name the settings of the monitored model"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    options: tuple[str, ...], said: str, run: Path, tmp_path: Path, mad: Mad
) -> None:
    done = mad("convert", run, tmp_path / "out", *options)
    assert done.code == 2
    assert said in done.err
    assert not (tmp_path / "out").exists()


def test_a_run_of_another_model_is_refused(
    run: Path, tmp_path: Path, mad: Mad, fitted: Path
) -> None:
    state = torch.load(run / "model_5.pth", weights_only=True)
    state["target_model.0.weight"][0, 0] += 1
    torch.save(state, run / "model_5.pth")
    done = mad("convert", run, tmp_path / "out", "--from", "spd", "--config", fitted)
    assert done.code == 2
    assert "decomposes other weights than the model has: those of '0' differ by up to 1" in done.err


def test_harvested_counts_tell_what_an_active_set_costs(tmp_path: Path, mad: Mad) -> None:
    """Two coins of one half that always fall alike: two bits as coins, one as a tree."""
    state = {
        "component_keys": ["h.0:0", "h.0:1"],
        "count_i": torch.tensor([5_000, 5_000]),
        "count_ij": torch.full((2, 2), 5_000),
        "count_total": 10_000,
    }
    torch.save(state, tmp_path / "component_correlations.pt")
    out = tmp_path / "counts"
    done = mad("convert", tmp_path / "component_correlations.pt", out, "--from", "harvest")
    assert done.code == 0, done.err
    (row,) = (line.split() for line in done.out.splitlines() if "h.0" in line)
    cells = [cell for cell in row if cell not in "│┃|"]
    assert [float(cell) for cell in cells[1:]] == pytest.approx([2, 2, 1, 2, 1], abs=0.01)
    assert "the codes independent, tree, worst_pair" in done.out
    found = load_counts(out)["h.0"]
    assert (found.inputs, found.both.tolist()) == (10_000, [[5_000] * 2] * 2)
    refused = mad("convert", out, tmp_path / "no", "--from", "harvest", "--to", "spd")
    assert refused.code == 2
    assert "harvested counts can be written as mad" in refused.err


def test_components_of_a_whole_model_become_ours(tmp_path: Path, mad: Mad, fitted: Path) -> None:
    weight = tiny_module().get_parameter("0.weight").detach()
    state = {"0.A": torch.eye(8).unsqueeze(2), "0.B": weight.T.unsqueeze(1)}
    torch.save(state, tmp_path / "spd_model_3.pth")
    (tmp_path / "final_config.yaml").write_text("C: 8\n")
    asked = ("convert", tmp_path, tmp_path / "ours", "--from", "apd")
    refused = mad(*asked)
    assert refused.code == 2
    assert "name its settings with --config" in refused.err
    done = mad(*asked, "--config", fitted)
    assert done.code == 0, done.err
    assert "8 components of 0, which leave 0 % of their squares over (instance 0 of 1)" in done.out
    found = load_components(tmp_path / "ours", tiny_module()).components["0"]
    torch.testing.assert_close(found.matrices.sum(dim=0), weight.T)
