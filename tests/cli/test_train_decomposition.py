"""``mad train decomposition``: layers taken apart, also after a kill, and then watched."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from mad.cli.main import main
from mad.client import Client
from mad.components.on_disk import load_decomposition
from mad.components.parameters.decomposition import ParameterDecomposition
from mad.sidecar import Sidecar
from tests.cli.conftest import Mad
from tests.cli.killed import train_until_killed
from tests.cli.test_serve import serving
from tests.pentagon import NEVER, alone, pentagon, usual

MODEL = '''"""The operator's own file."""

from tests.pentagon import pentagon


def build():
    return pentagon()
'''
SETTINGS = """
[model]
name = "pentagon"
factory = "model.py:build"
weights = "model.safetensors"
inputs = ["x"]

[decomposition]
path = "pieces"

[decomposition.parameters]
layers = ["write", "read"]
components = 8
ties = [["write", "read"]]
sparsity = 3e-3
steps = 3
batch_size = 256

[data]
trusted = ["trusted.npz"]

[baseline]
false_alarm_rate = 0.02
"""


def deployed(folder: Path, settings: str = SETTINGS) -> Path:
    """Write model, data and settings; return the settings file."""
    folder.mkdir(exist_ok=True)
    (folder / "model.py").write_text(MODEL)
    save_file(pentagon().state_dict(), folder / "model.safetensors")
    x = usual(2_000, seed=1).numpy()
    np.savez(folder / "trusted.npz", x=x, y=x)
    np.savez(folder / "odd.npz", x=alone(20, feature=NEVER, seed=2).numpy())
    (folder / "mad.toml").write_text(settings)
    return folder / "mad.toml"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the settings of a deployment whose layers were taken apart; never written to."""
    config = deployed(tmp_path_factory.mktemp("trained"))
    with pytest.raises(SystemExit, match="0"):
        main(["train", "decomposition", "--config", str(config)])
    return config


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """Return the settings of a copy that a test may change."""
    return shutil.copytree(trained.parent, tmp_path / "copied") / "mad.toml"


def test_layers_are_taken_apart_and_fitted(copied: Path, mad: Mad) -> None:
    read = load_decomposition(copied.parent / "pieces", pentagon())
    assert isinstance(read, ParameterDecomposition)
    # One more, for the feature that trusted inputs never have.
    assert [layer.parts.width for layer in read.layers] == [9, 8]
    assert not (copied.parent / "pieces" / ".unfinished").exists()
    assert mad("fit", copied).code == 0
    scored = mad("score", copied, copied.parent / "odd.npz")
    assert scored.code == 0
    assert "20 of 20 inputs" in scored.out


def fit_again(setting: str, copied: Path, mad: Mad) -> None:
    """Fit, change how pieces are read out, and fit again, for which nothing is trained."""
    assert mad("fit", copied).code == 0
    copied.write_text(SETTINGS.replace("steps = 3", f"steps = 3\n{setting}"))
    refused = mad("score", copied, copied.parent / "odd.npz")
    assert refused.code == 1
    assert "fitted on another decomposition" in refused.err
    again = mad("fit", copied)
    assert again.code == 0
    assert "training decomposition" not in again.err


@pytest.mark.slow
def test_a_threshold_is_changed_without_training_again(copied: Path, mad: Mad) -> None:
    fit_again("threshold = 0.02", copied, mad)
    read = load_decomposition(copied.parent / "pieces", pentagon())
    assert isinstance(read, ParameterDecomposition)
    assert read.threshold == 0.02


@pytest.mark.slow
def test_what_the_masked_model_answers_otherwise_is_described_if_asked(
    copied: Path, mad: Mad
) -> None:
    fit_again("masked_output = true", copied, mad)
    scored = mad("score", copied, copied.parent / "odd.npz")
    assert "20 of 20 inputs" in scored.out
    explained = mad("explain", copied, copied.parent / "odd.npz")
    assert "│ @output:masked " in explained.out
    read = load_decomposition(copied.parent / "pieces", pentagon())
    assert tuple(read.views) == ("write", "read", "@output:masked")
    assert mad("report", "accounting", copied).code == 0


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"read"]\ncomp', '"reed"]\ncomp', "no module named 'reed'; it has write, read"),
        ('["write", "read"]\ncomp', '["x*"]\ncomp', "no module of the model matches"),
        ('ties = [["write", "read"]]\n', "", "hold one parameter.*declare the pair in ties"),
        ("components = 8", "components = 1", "miss at least 50% of its matrix.*to 2 or more"),
        ("components = 8", "components = {'w*' = 8}", "layer 'read' is named by 0 patterns"),
        ('path = "pieces"', 'sites = ["write"]', "leave sites, activations and"),
        ("components = 8", "components = 0", "components"),
        ("steps = 3", "steps = 3\nsubsett = 1.0", "did you mean|subsett is no setting"),
        ("steps = 3", "steps = 3\nstochastic = 0.0\nlayerwise = 0.0", "are all 0"),
        ('inputs = ["x"]', 'inputs = ["x", "y"]', "layers are taken apart on models of one input"),
    ],
)
def test_what_cannot_be_taken_apart_is_refused_before_any_work(
    tmp_path: Path, mad: Mad, old: str, new: str, complaint: str
) -> None:
    assert old in SETTINGS
    config = deployed(tmp_path, SETTINGS.replace(old, new))
    for command in (("train", "decomposition", "--config"), ("fit",)):
        done = mad(*command, config)
        assert done.code == 2
        said = " ".join(done.err.replace("│", " ").split())
        assert re.search(complaint, said), said
        assert not (tmp_path / "pieces").exists()


def test_dictionaries_and_pieces_are_not_mixed_up(copied: Path, mad: Mad) -> None:
    for what in (("dictionary",), ("activations", "--out", str(copied.parent / "out"))):
        refused = mad("train", *what, "--config", copied)
        assert refused.code == 2
        assert "mad train decomposition" in refused.err
    start, _, rest = SETTINGS.partition("[decomposition.parameters]")
    copied.write_text(start + 'sites = ["write"]\n[data]' + rest.partition("[data]")[2])
    for command in (("train", "dictionary", "--config"), ("fit",)):
        refused = mad(*command, copied)
        assert refused.code == 2
        assert "has parameters, by its parameters.json" in refused.err
    refused = mad("train", "decomposition", "--config", copied)
    assert refused.code == 2
    assert "mad train dictionary" in refused.err


def test_a_decomposition_of_other_weights_is_refused(copied: Path, mad: Mad) -> None:
    weights = pentagon().state_dict()
    weights["write.weight"] = weights["write.weight"] * 1.01
    weights["read.weight"] = weights["write.weight"].T.contiguous()
    save_file(weights, copied.parent / "model.safetensors")
    refused = mad("fit", copied)
    assert refused.code == 2
    assert "has other weights than those that were decomposed" in " ".join(refused.err.split())


@pytest.mark.slow
def test_kill_9_in_the_middle_ends_in_the_same_weights(tmp_path: Path, mad: Mad) -> None:
    long = SETTINGS.replace("steps = 3", "steps = 30\nadversarial = 0.5")
    long = long.replace('path = "pieces"', 'path = "pieces"\ncheckpoint_seconds = 0.0')
    killed, whole = (deployed(tmp_path / name, long) for name in ("killed", "whole"))
    train_until_killed("decomposition", killed)
    assert not (killed.parent / "pieces" / "parameters.json").exists()
    again = mad("train", "decomposition", "--config", killed)
    assert "resuming at step" in again.err
    done = mad("train", "decomposition", "--config", whole)
    assert done.code == 0
    assert "training decomposition: 30 of 30" in done.err
    for layer in ("write", "read"):
        assert f"│ {layer} " in done.out
    assert files_of(killed.parent / "pieces") == files_of(whole.parent / "pieces")


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("parameters*"))}


@pytest.mark.slow
def test_a_server_alerts_on_a_mechanism_that_trusted_inputs_never_use(
    tmp_path: Path, mad: Mad
) -> None:
    """Inputs of a feature never seen, beside inputs of as much of one that is usual."""
    config = deployed(tmp_path, SETTINGS.replace("steps = 3", "steps = 250"))
    assert mad("fit", config).code == 0
    with serving(config) as served, Client(served.address) as client:
        odd = client.score({"x": alone(30, feature=NEVER, seed=3)})
        matched = client.score({"x": alone(30, feature=1, seed=3)})
        alerts = client.alerts().alerts
    assert all(score.verdict.is_alert for score in odd.scores)
    assert sum(score.verdict.is_alert for score in matched.scores) <= 2
    told = {alert.alert_id for alert in alerts}
    assert {score.alert_id for score in odd.scores} <= told
    explained = mad("explain", config, tmp_path / "odd.npz")
    assert explained.code == 0
    assert "│ write " in explained.out
    terms = {charge.site for alert in alerts for charge in alert.explanation.charges}
    assert terms <= {"write", "read"}


@pytest.mark.slow
def test_a_sidecar_sends_what_the_masked_model_needs(copied: Path, mad: Mad) -> None:
    """What goes into the model and comes out of it are sites as others are."""
    copied.write_text(SETTINGS.replace("steps = 3", "steps = 3\nmasked_output = true"))
    assert mad("fit", copied).code == 0
    x = alone(5, feature=NEVER, seed=3)
    with serving(copied) as served, Client(served.address) as client:
        run_there = client.score({"x": x})
        with Sidecar.beside(
            pentagon(), copied.parent / "pieces", client, sends="activations", fails_open=False
        ) as sidecar:
            _, scores = sidecar.score(x)
            run_here = scores.result(timeout=30)
    assert [one.verdict for one in run_here.scores] == [one.verdict for one in run_there.scores]
    assert "@output:masked" in {part.site for part in run_here.scores[0].verdict.parts}
