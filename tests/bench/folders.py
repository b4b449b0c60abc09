"""Task folders on disk, with a blatant anomaly: inputs far from every trusted cluster."""

import json
from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from tests.worlds import ordinary, strange, tiny_module

MODEL = '''"""The task's own file."""

from tests.worlds import tiny_module


def build(seed):
    return tiny_module(seed)
'''
META: dict[str, object] = {
    "name": "tiny_far_s0",
    "model_args": {"seed": 0},
    "sites": ["1"],
    "input_encoding": "float",
    "extra_inputs": ["benign_shift"],
    "output": "logits",
    "quality": {"clean_acc": 1.0},
}


def write_task(folder: Path, **changed: object) -> Path:
    """Write a task whose anomalies nobody could miss; ``changed`` replaces fields of its meta."""
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps(META | changed))
    (folder / "model.py").write_text(MODEL)
    save_file(tiny_module().state_dict(), folder / "model.safetensors")
    write_arrays(
        folder,
        trusted=ordinary(400, seed=1).numpy(),
        test_normal=ordinary(150, seed=2).numpy(),
        test_anomalous=strange(60, seed=3).numpy(),
        benign_shift=1.1 * ordinary(80, seed=4).numpy(),
        y_trusted=np.arange(400),
    )
    return folder


def write_arrays(folder: Path, **arrays: np.ndarray) -> None:
    """Write the task's data."""
    np.savez(folder / "data.npz", **arrays)  # type: ignore[arg-type]  # numpy's stub: allow_pickle
