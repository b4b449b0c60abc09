"""``mad train decomposition`` by attribution: components of a whole model, trained and watched."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mad.cli.main import main
from mad.client import Client
from mad.components.on_disk import load_decomposition
from mad.components.parameters.apd.readout import ApdDecomposition
from mad.components.parameters.apd.rules import Above
from mad.deployment import Deployment
from tests.cli.conftest import Mad
from tests.cli.killed import train_until_killed
from tests.cli.test_serve import serving
from tests.cli.test_train_decomposition import SETTINGS as BY_LAYER, deployed
from tests.pentagon import NEVER, alone, pentagon

_BEFORE, _, _REST = BY_LAYER.partition("[decomposition.parameters]")
SETTINGS = f"""{_BEFORE}[decomposition.attributions]
layers = ["write", "read"]
components = 5
active = 0.8
rank = 3
ties = [["write", "read"]]
attributed = "components"
steps = 25
batch_size = 64

[data]{_REST.partition("[data]")[2]}"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the settings of a deployment whose model was taken apart; never written to."""
    config = deployed(tmp_path_factory.mktemp("trained"), SETTINGS)
    with pytest.raises(SystemExit, match="0"):
        main(["train", "decomposition", "--config", str(config)])
    return config


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """Return the settings of a copy that a test may change."""
    return shutil.copytree(trained.parent, tmp_path / "copied") / "mad.toml"


@pytest.fixture
def converted(tmp_path: Path, mad: Mad) -> Path:
    """Return the settings of a deployment with components of another library: a feature each."""
    config = deployed(tmp_path / "converted", SETTINGS)
    features = torch.eye(5)
    corners = pentagon().write.weight.detach().T
    state = {
        "write.A": features.unsqueeze(2),
        "write.B": corners.unsqueeze(1),
        "read.A": corners.unsqueeze(2),
        "read.B": features.unsqueeze(1),
    }
    run = tmp_path / "run"
    run.mkdir()
    torch.save(state, run / "spd_model_9.pth")
    (run / "final_config.yaml").write_text("C: 5\n")
    done = mad("convert", run, config.parent / "pieces", "--from", "apd", "--config", config)
    assert done.code == 0, done.err
    assert "`mad fit` takes thresholds from the trusted data" in done.out
    return config


def test_a_model_is_taken_apart_fitted_and_explained(copied: Path, mad: Mad) -> None:
    read = load_decomposition(copied.parent / "pieces", pentagon())
    assert isinstance(read, ApdDecomposition)
    assert {name: one.width for name, one in read.components.items()} == {"write": 5, "read": 5}
    # One threshold, at which 0.8 of the components are used by an input that trained them.
    assert isinstance(read.rule, Above)
    assert len(read.rule.thresholds.unique()) == 1
    assert not (copied.parent / "pieces" / ".unfinished").exists()
    fitted = mad("fit", copied)
    assert fitted.code == 0, fitted.err
    assert "training" not in fitted.err
    assert "taking thresholds" not in fitted.err
    scored = mad("score", copied, copied.parent / "odd.npz")
    assert "20 of 20 inputs" in scored.out
    explained = mad("explain", copied, copied.parent / "odd.npz")
    assert "│ write " in explained.out


def test_another_rule_is_taken_by_the_next_fit_without_training_again(
    copied: Path, mad: Mad
) -> None:
    assert mad("fit", copied).code == 0
    copied.write_text(SETTINGS.replace("active = 0.8", "active = 1\nthresholds = 'none'"))
    refused = mad("score", copied, copied.parent / "odd.npz")
    assert refused.code == 2
    assert "read out with active = 0.8 and thresholds = 'one'" in " ".join(refused.err.split())
    again = mad("fit", copied)
    assert again.code == 0, again.err
    assert "taking thresholds" in again.err
    assert "training" not in again.err
    assert mad("score", copied, copied.parent / "odd.npz").code == 0


def test_components_of_another_library_are_read_out_after_a_fit(converted: Path, mad: Mad) -> None:
    """A feature of strength ``s`` that is on alone passes two layers of its component: ``(2s)^2``.

    Its neighbours' outputs are off, for the bias takes away what they read of it.
    """
    refused = mad("score", converted, converted.parent / "odd.npz")
    assert refused.code == 2
    assert "never read out on trusted inputs" in " ".join(refused.err.split())
    fitted = mad("fit", converted)
    assert fitted.code == 0, fitted.err
    assert "taking thresholds" in fitted.err
    deployment = Deployment.load(converted)
    data = deployment.trusted()
    read_by_rule = data.take(deployment.rows(data).fitting)["x"].unique(dim=0)
    assert len(deployment.seen) == len(read_by_rule)
    read = load_decomposition(converted.parent / "pieces", pentagon())
    assert isinstance(read, ApdDecomposition)
    inputs = alone(6, feature=NEVER, seed=1).clamp(min=0.0)
    expected = torch.zeros(6, 5)
    is_on = inputs[:, NEVER] > -pentagon().read.bias[NEVER].detach()
    expected[:, NEVER] = torch.where(is_on, (2 * inputs[:, NEVER]) ** 2, torch.zeros(6))
    torch.testing.assert_close(read.attributions(inputs), expected)
    scored = mad("score", converted, converted.parent / "odd.npz")
    assert "20 of 20 inputs" in scored.out


def test_a_model_that_answers_nothing_uses_no_component(converted: Path, mad: Mad) -> None:
    """The weights are the same; a bias that shuts all outputs is not."""
    assert mad("fit", converted).code == 0
    weights = pentagon().state_dict()
    weights["read.bias"] -= 9.0
    save_file(weights, converted.parent / "shut.safetensors")
    asked = ("--config", converted, "--weights", converted.parent / "shut.safetensors")
    found = mad("report", "diff", *asked)
    assert found.code == 0, found.err
    rows = [row.split() for row in found.out.splitlines() if "write:" in row]
    rates = {row[1]: (float(row[3]), float(row[6])) for row in rows}
    assert sum(before for before, _ in rates.values()) > 50
    # None of 300, with half a count of each for what was never seen: 0.5 / 301.
    assert {after for _, after in rates.values()} == {0.166}


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"read"]\ncomp', '"reed"]\ncomp', "no module named 'reed'; it has write, read"),
        ('["write", "read"]\ncomp', '["x*"]\ncomp', "no module of the model matches"),
        ('ties = [["write", "read"]]\n', "", "hold one parameter.*declare the pair in ties"),
        ("components = 5\n", "components = 1\n", "rank 2, which 1 components of rank 1 cannot"),
        ('path = "pieces"', 'sites = ["write"]', r"by \[decomposition.attributions\], so there"),
        ("components = 5", "components = 0", "components"),
        ("steps = 25", "steps = 25\nstep = 1", "step is no setting"),
        ("steps = 25", "steps = 25\nthreshold = 0.1", "threshold is no setting"),
        ("active = 0.8", "active = 6.0", "active = 6 must be at most components = 5"),
        ("steps = 25", "thresholds = 'none'", "active = 0.8 with thresholds = 'none', which gives"),
        ("steps = 25", "selection = 'input'", "active = 0.8 with selection = 'input', which gives"),
        ("steps = 25", "faithfulness = 0.0", "faithfulness = 0, so nothing ties components"),
        ("steps = 25", "hidden_layers = ['write']", "with hidden = 0, so nothing is compared"),
        ('inputs = ["x"]', 'inputs = ["x", "y"]', "layers are taken apart on models of one input"),
        ("[data]", "[decomposition.parameters]\nlayers = ['read']\n[data]", "keep one of the two"),
    ],
)
def test_what_cannot_be_taken_apart_is_refused_before_any_work(
    tmp_path: Path, mad: Mad, old: str, new: str, complaint: str
) -> None:
    assert old in SETTINGS
    settings = SETTINGS.replace(old, new)
    if "rank 1" in complaint:
        settings = settings.replace("rank = 3", "rank = 1").replace("active = 0.8", "active = 0.5")
    config = deployed(tmp_path, settings)
    for command in (("train", "decomposition", "--config"), ("fit",)):
        done = mad(*command, config)
        assert done.code == 2
        said = " ".join(done.err.replace("│", " ").split())
        assert re.search(complaint, said), said
        assert not (tmp_path / "pieces").exists()


def test_sorts_of_components_are_not_mixed_up(copied: Path, mad: Mad) -> None:
    refused = mad("train", "dictionary", "--config", copied)
    assert refused.code == 2
    assert "remove [decomposition.attributions]" in refused.err
    copied.write_text(BY_LAYER)
    for command in (("train", "decomposition", "--config"), ("fit",)):
        refused = mad(*command, copied)
        assert refused.code == 2
        assert "has attributions, by its attributions.json" in refused.err


def test_components_of_other_weights_are_refused(copied: Path, mad: Mad) -> None:
    weights = pentagon().state_dict()
    weights["read.bias"] = weights["read.bias"] * 1.01
    save_file(weights, copied.parent / "model.safetensors")
    refused = mad("fit", copied)
    assert refused.code == 2
    assert "of a model with other weights" in " ".join(refused.err.split())


@pytest.mark.slow
def test_kill_9_in_the_middle_ends_in_the_same_components(tmp_path: Path, mad: Mad) -> None:
    long = SETTINGS.replace("steps = 25", "steps = 60")
    long = long.replace('path = "pieces"', 'path = "pieces"\ncheckpoint_seconds = 0.0')
    killed, whole = (deployed(tmp_path / name, long) for name in ("killed", "whole"))
    train_until_killed("decomposition", killed)
    assert not (killed.parent / "pieces" / "attributions.json").exists()
    again = mad("train", "decomposition", "--config", killed)
    assert "resuming at step" in again.err
    done = mad("train", "decomposition", "--config", whole)
    assert "training decomposition: 60 of 60" in done.err
    assert files_of(killed.parent / "pieces") == files_of(whole.parent / "pieces")


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


@pytest.mark.slow
def test_a_server_scores_by_components_alike_alone_and_in_company(
    converted: Path, mad: Mad
) -> None:
    """Inputs of a feature never seen, beside inputs of as much of one that is usual."""
    assert mad("fit", converted).code == 0
    with serving(converted) as served, Client(served.address) as client:
        odd = client.score({"x": alone(30, feature=NEVER, seed=3)})
        matched = client.score({"x": alone(30, feature=1, seed=3)})
        singly = [
            client.score({"x": alone(30, feature=NEVER, seed=3)[row : row + 1]}).scores[0]
            for row in (0, 11, 29)
        ]
        alerts = client.alerts().alerts
    assert all(score.verdict.is_alert for score in odd.scores)
    assert sum(score.verdict.is_alert for score in matched.scores) <= 2
    for row, one in zip((0, 11, 29), singly, strict=True):
        together = odd.scores[row].verdict
        assert one.verdict.surprise_bits == pytest.approx(together.surprise_bits, rel=1e-9)
    told = {alert.alert_id for alert in alerts}
    assert {score.alert_id for score in odd.scores} <= told
    terms = {charge.site for alert in alerts for charge in alert.explanation.charges}
    assert terms <= {"write", "read"}
