"""Task folders: what is read, and what is refused with a sentence."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mad.bench.tasks import Task, load_task
from mad.errors import ConfigError
from tests.bench.folders import write_arrays, write_task
from tests.worlds import tiny_module


def test_a_task_has_its_model_sites_and_inputs(tmp_path: Path) -> None:
    task = load_task(write_task(tmp_path / "one"))
    assert task.name == "tiny_far_s0"
    assert task.sites == ("1",)
    assert task.is_classifier
    wanted = tiny_module().state_dict()
    assert torch.equal(task.model.module.state_dict()["0.weight"], wanted["0.weight"])
    assert {name: tuple(one["input"].shape) for name, one in task.tests.items()} == {
        "test_normal": (150, 8),
        "test_anomalous": (60, 8),
        "benign_shift": (80, 8),
    }


HALVES = """
from torch import nn

class Half(nn.Module):
    def forward(self, x):
        return x / 2

def build():
    return nn.Sequential(Half())
"""


def halving(folder: Path, encoding: str, inputs: np.ndarray) -> Task:
    """Load a task whose model halves, and whose arrays are all the same."""
    write_task(folder, input_encoding=encoding, sites=["0"], model_args={})
    (folder / "model.py").write_text(HALVES)
    save_file({}, folder / "model.safetensors")
    write_arrays(folder, trusted=inputs, test_normal=inputs, test_anomalous=inputs)
    return load_task(folder)


def test_bytes_become_one_channel_of_numbers_up_to_one(tmp_path: Path) -> None:
    task = halving(tmp_path / "t", "image_u8", np.array([[[0, 51], [255, 102]]], dtype=np.uint8))
    torch.testing.assert_close(task.trusted["input"], torch.tensor([[[[0.0, 0.2], [1.0, 0.4]]]]))
    assert task.benign_shift is None


@pytest.mark.parametrize(
    ("encoding", "stored", "read"),
    [
        ("bits", np.uint8, torch.float32),
        ("float", np.float16, torch.float32),
        ("tokens", np.uint16, torch.int64),
    ],
)
def test_an_encoding_decides_the_type_and_keeps_the_values(
    tmp_path: Path, encoding: str, stored: type, read: torch.dtype
) -> None:
    task = halving(tmp_path / "t", encoding, np.array([[0, 1, 1]], dtype=stored))
    assert task.trusted["input"].dtype == read
    assert task.trusted["input"].tolist() == [[0, 1, 1]]


BREAKS = [
    ({"input_encoding": "audio"}, r"meta\.json: input_encoding: .*'image_u8'.*, not 'audio'"),
    ({"sites": []}, r"meta\.json: sites: "),
    ({"sites": ["nowhere"]}, r"no module of the model matches site 'nowhere'"),
    ({"model_args": {"depth": 3}}, r"cannot be called with \{'depth': 3\}"),
    ({"input_encoding": "tokens"}, r"array 'trusted' is float32, which is not encoding 'tokens'"),
]


@pytest.mark.parametrize(("changed", "message"), BREAKS)
def test_a_field_that_cannot_be_used_is_named(
    tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_task(write_task(tmp_path / "t", **changed))


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    folder = write_task(tmp_path / "t")
    (folder / "meta.json").write_text('{"name": "t", "sites": ["1"]}')
    with pytest.raises(ConfigError, match=r"meta\.json: input_encoding: Field required"):
        load_task(folder)


@pytest.mark.parametrize("name", ["meta.json", "model.py", "model.safetensors", "data.npz"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = write_task(tmp_path / "t")
    (folder / name).unlink()
    with pytest.raises(ConfigError, match=name):
        load_task(folder)


@pytest.mark.parametrize("name", ["meta.json", "model.py", "model.safetensors", "data.npz"])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str) -> None:
    path = write_task(tmp_path / "t") / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(ConfigError):
        load_task(path.parent)


def test_a_missing_array_and_pickled_objects_are_refused(tmp_path: Path) -> None:
    folder = write_task(tmp_path / "t")
    write_arrays(folder, trusted=np.zeros((9, 8)), test_normal=np.zeros((9, 8)))
    with pytest.raises(ConfigError, match="no array 'test_anomalous'"):
        load_task(folder)
    objects = np.array([{"x": 1}], dtype=object)
    write_arrays(folder, trusted=objects, test_normal=objects, test_anomalous=objects)
    with pytest.raises(ConfigError, match="plain arrays"):
        load_task(folder)


def test_inputs_that_the_model_cannot_take_are_refused(tmp_path: Path) -> None:
    folder = write_task(tmp_path / "t")
    nine = np.zeros((20, 9), dtype=np.float32)
    write_arrays(folder, trusted=nine, test_normal=nine, test_anomalous=nine)
    with pytest.raises(ConfigError, match=r"fails on one input of shape \(1, 9\)"):
        load_task(folder)
    nine[3, 3] = np.nan
    write_arrays(folder, trusted=nine, test_normal=nine, test_anomalous=nine)
    with pytest.raises(ConfigError, match="array 'trusted' holds NaN"):
        load_task(folder)
