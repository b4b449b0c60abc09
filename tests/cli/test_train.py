"""``mad train``: dictionaries of every kind from a settings file, also after a kill."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tensorboardX.proto.event_pb2 import Event

from mad.cli.train import show_figures
from mad.components.dictionaries.files import load_dictionaries
from mad.components.dictionaries.kinds.registry import LEARNERS
from mad.components.dictionaries.plan import DictionaryFigures
from mad.config import Settings
from mad.deployment import Deployment
from mad.fit.reading import row_digests
from tests.cli.conftest import SETTINGS, Mad, write_deployment
from tests.cli.killed import train_until_killed
from tests.worlds import layered_module, strange

QUICK = SETTINGS.replace("steps = 60", "steps = 20\nsearch = false")
TABLES = """
[[decomposition.dictionary]]

[[decomposition.dictionary]]
width = 16
k = 2

[[decomposition.dictionary]]
kind = "relu"
suffix = "l1"
sites = ["3"]

[data]"""


def with_settings(folder: Path, *, decomposition: str, base: str = QUICK) -> Path:
    """Write a deployment with more settings of dictionaries."""
    return write_deployment(folder, base.replace("k = 4", f"k = 4\n{decomposition}"))


def tensors_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.safetensors"))}


def test_tables_train_several_dictionaries_in_one_pass(tmp_path: Path, mad: Mad) -> None:
    config = write_deployment(tmp_path, QUICK.replace("[data]", TABLES))
    done = mad("train", "dictionary", "--config", config)
    assert done.code == 0
    assert done.err.count("capturing activations: 360 of 360") == 1
    read = load_dictionaries(tmp_path / "dictionaries")
    assert list(read.views) == ["1", "3", "1:w16k2", "3:w16k2", "3:l1"]
    for view in read.views:
        assert f"│ {view} " in done.out
    assert "unexplained variance" in done.err
    assert "active, " in done.err
    assert "% dead" in done.err
    assert not (tmp_path / "dictionaries" / ".unfinished").exists()


def test_suffixes_say_how_dictionaries_differ(tmp_path: Path) -> None:
    table = "[[decomposition.dictionary]]\n"
    tables = table * 3 + 'kind = "batch_topk"\nwidth = 64\n' + table + "p = 0.25\n"
    config = write_deployment(tmp_path, QUICK.replace("[data]", f"{tables}[data]"))
    suffixes = Settings.load(config).decomposition.suffixes
    assert suffixes == ("", "other", "batch-topk.w64k4", "other-2")


@pytest.mark.slow
def test_kill_9_in_the_middle_ends_in_the_same_weights(tmp_path: Path, mad: Mad) -> None:
    slow = QUICK.replace("steps = 20", "steps = 300\nbatch_size = 64\ncheckpoint_seconds = 0.0")
    (tmp_path / "killed").mkdir()
    (tmp_path / "whole").mkdir()
    killed, whole = (write_deployment(tmp_path / name, slow) for name in ("killed", "whole"))
    train_until_killed("dictionary", killed)
    assert not (killed.parent / "dictionaries" / "dictionaries.json").exists()
    again = mad("train", "dictionary", "--config", killed)
    assert "resuming at step" in again.err
    assert mad("train", "dictionary", "--config", whole).code == 0
    assert tensors_of(killed.parent / "dictionaries") == tensors_of(whole.parent / "dictionaries")


def test_a_changed_setting_starts_over_and_says_so(tmp_path: Path, mad: Mad) -> None:
    config = with_settings(tmp_path, decomposition="checkpoint_seconds = 0.0")
    deployment = Deployment.load(config)

    class KilledError(Exception):
        """Stands for a kill."""

    def dies(stage: str, *, done: int, total: int, note: str = "") -> None:
        assert done <= total, note
        if (stage, done) == ("training dictionary 3", 9):
            raise KilledError

    for restart in (False, True):
        config.write_text(config.read_text().replace("k = 3", "k = 4"))
        with pytest.raises(KilledError):
            deployment.train(deployment.trusted(), progress=dies)
        config.write_text(config.read_text().replace("k = 4", "k = 3"))
        done = mad("train", "dictionary", "--config", config, *(["--restart"] if restart else []))
        assert done.code == 0
        said = "starting over: the unfinished training was of other settings"
        assert (said in done.err) == (not restart)


def test_fit_goes_on_with_a_killed_training(tmp_path: Path, mad: Mad) -> None:
    config = with_settings(tmp_path, decomposition="checkpoint_seconds = 0.0")
    deployment = Deployment.load(config)

    class KilledError(Exception):
        """Stands for a kill."""

    def dies(stage: str, *, done: int, total: int, note: str = "") -> None:
        assert done <= total, note
        if (stage, done) == ("training dictionary 3", 9):
            raise KilledError

    with pytest.raises(KilledError):
        deployment.train(deployment.trusted(), progress=dies)
    done = mad("fit", config)
    assert done.code == 0
    assert "resuming at step" in done.err


def test_scalars_are_written_for_tensorboard(tmp_path: Path, mad: Mad) -> None:
    config = write_deployment(tmp_path, QUICK)
    done = mad("train", "dictionary", "--config", config, "--tensorboard", tmp_path / "board")
    assert done.code == 0
    assert sorted(path.name for path in (tmp_path / "board").iterdir()) == ["1", "3"]
    (file,) = (tmp_path / "board" / "1").iterdir()
    tags, steps = set(), set()
    for event in events_in(file.read_bytes()):
        for value in event.summary.value:
            tags.add(value.tag)
            steps.add(event.step)
    assert tags == {"unexplained", "active", "dead_share"}
    assert steps == set(range(1, 21))


def events_in(content: bytes) -> list[Event]:
    """Read TensorBoard's records: a length of 8 bytes, its checksum, so many bytes, theirs."""
    found = []
    while content:
        length = int.from_bytes(content[:8], "little")
        found.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return found


def test_without_the_extra_tensorboard_is_refused_before_the_work(
    tmp_path: Path, mad: Mad, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    config = write_deployment(tmp_path, QUICK)
    done = mad("train", "dictionary", "--config", config, "--tensorboard", tmp_path / "board")
    assert done.code == 2
    assert "pip install 'mad[tensorboard]'" in done.err
    assert not (tmp_path / "dictionaries").exists()


def test_scalars_that_cannot_be_written_are_named(tmp_path: Path, mad: Mad) -> None:
    config = write_deployment(tmp_path, QUICK)
    done = mad("train", "dictionary", "--config", config, "--tensorboard", config)
    assert done.code == 2
    assert f"cannot write scalars to {config / '1'}: Not a directory; name another" in done.err


def test_a_training_that_diverges_ends_at_once_and_says_so(tmp_path: Path, mad: Mad) -> None:
    config = write_deployment(tmp_path, QUICK.replace("k = 4", "k = 4\nlearning_rate = 1e30"))
    done = mad("train", "dictionary", "--config", config)
    assert done.code == 2
    assert "the training of '1' diverged at step 3: set a learning_rate below 1e+30" in done.err
    assert not (tmp_path / "dictionaries" / "dictionaries.json").exists()


def test_activations_on_disk_train_the_same_dictionaries(tmp_path: Path, mad: Mad) -> None:
    config = write_deployment(tmp_path, QUICK)
    done = mad("train", "activations", "--config", config, "--out", tmp_path / "acts")
    assert done.code == 0
    assert "activations of 1, 3 written to" in done.out
    mad("train", "dictionary", "--config", config)
    before = tensors_of(tmp_path / "dictionaries")
    named = config.read_text().replace("k = 4", 'k = 4\nactivations = ["acts"]')
    config.write_text(named)
    again = mad("train", "dictionary", "--config", config)
    assert again.code == 0
    assert tensors_of(tmp_path / "dictionaries") == before
    (shard,) = (tmp_path / "acts").glob("*.safetensors")
    rows = Deployment.load(config).rows(Deployment.load(config).trusted()).fitting
    trusted = torch.from_numpy(np.load(tmp_path / "trusted.npz")["x"])
    expected = row_digests({"x": trusted[rows]})
    assert torch.equal(load_file(shard)["mad_input_digest"], expected)


WAYS: dict[str, str] = {
    **{str(kind): f'kind = "{kind}"' for kind in LEARNERS},
    "transcoder": 'form = "transcoder"\nsources = ["1", "1"]',
    "skip transcoder": 'form = "skip_transcoder"\nsources = ["1", "1"]',
    "crosscoder": 'form = "crosscoder"',
    "end to end": 'objective = "end_to_end"',
    "transcoder, end to end": 'form = "transcoder"\nsources = ["1", "1"]\nobjective = "end_to_end"',
    "crosscoder, end to end": 'form = "crosscoder"\nobjective = "end_to_end"',
    "meta": "meta_width = 8\nmeta_k = 2",
    "meta, jointly": "meta_width = 8\nmeta_k = 2\nmeta_weight = 0.1",
    "meta, of a crosscoder": 'form = "crosscoder"\nmeta_width = 8\nmeta_weight = -0.1',
    "meta, end to end": 'objective = "end_to_end"\nmeta_width = 8',
    "attention": 'form = "attention"\nsources = ["attention<"]\nheads = 8\nbatch_size = 64',
    "attention, mean": 'form = "attention"\nsources = ["attention<"]\npooling = "mean"',
    "bilinear": 'form = "bilinear"\nleft = "one"\nright = "two"\nout = "last"\nrank = 16',
}


def with_layers(folder: Path) -> None:
    """Put a model with an attention layer and a bilinear one in the place of a deployment's."""
    code = (folder / "model.py").read_text()
    (folder / "model.py").write_text(code.replace("tiny_module", "layered_module"))
    save_file(layered_module().state_dict(), folder / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_train_fits_scores_and_explains(tmp_path: Path, mad: Mad, way: str) -> None:
    base = QUICK
    layer = way.partition(",")[0]
    if "transcoder" in way:
        base = base.replace('sites = ["1", "3"]', 'sites = ["2", "3"]')
    if layer in ("attention", "bilinear"):
        base = base.replace('sites = ["1", "3"]', f'sites = ["{layer}"]')
    config = with_settings(tmp_path, decomposition=WAYS[way], base=base)
    if layer in ("attention", "bilinear"):
        with_layers(tmp_path)
    done = mad("fit", config)
    assert done.code == 0, done.err
    monitor = Deployment.load(config).monitor()
    verdicts = monitor.judge({"x": strange(5, seed=3)}).verdicts
    assert all(one.surprise_bits > 3 for one in verdicts)
    explained = mad("explain", config, tmp_path / "strange.npz", 0)
    assert explained.code == 0, explained.err
    assert "bits" in explained.out


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ('kind = "topkk"', "kind = 'topkk' must be 'topk', 'batch_topk'"),
        ('form = "transcoder"', "form = 'transcoder' with sources = \\[\\]"),
        ('sources = ["1"]', "form = 'autoencoder' with sources"),
        ('kind = "switch"\nactive_experts = 9', "active_experts = 9 must be at most experts = 8"),
        ('activations = ["none"]', "none is not a file"),
    ],
)
def test_settings_that_cannot_go_together_are_refused(
    tmp_path: Path, mad: Mad, settings: str, named: str
) -> None:
    config = with_settings(tmp_path, decomposition=settings)
    done = mad("train", "dictionary", "--config", config)
    assert done.code == 2
    assert named.replace("\\", "") in done.err


def test_a_dictionary_of_which_nothing_is_active_is_complained_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_figures(
        [DictionaryFigures("full", 0.2, 3.0, 0.1), DictionaryFigures("bare", 1.0, 0.0, 1.0)]
    )
    complaints = capsys.readouterr().err
    assert "no latent of bare is active" in complaints
    assert "full" not in complaints
