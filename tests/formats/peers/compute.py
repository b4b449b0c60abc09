"""Load a checkpoint with the library whose layout it has, and compute with it.

python -m tests.formats.peers.compute JOBS
"""

import json
import os
import runpy
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from dictionary_learning.utils import load_dictionary
from sae_lens import SAE
from sae_lens.saes.sae import TrainingSAE
from sae_lens.training.activation_scaler import ActivationScaler
from safetensors.torch import load_file, save_file
from sparsify import SparseCoder
from torch import Tensor

HEADS = 2


def saelens(path: Path, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return latents and reconstruction by SAELens."""
    scaler = ActivationScaler()
    if (path / "activation_scaler.json").is_file():
        factor = json.loads((path / "activation_scaler.json").read_text())["scaling_factor"]
        scaler = ActivationScaler(scaling_factor=factor)
    if _is_in_training(path):
        return _in_training(path, x)
    sae = SAE.load_from_disk(path)
    shape = (len(x), HEADS, -1) if sae.cfg.reshape_activations == "hook_z" else x.shape
    scaled = scaler.scale(x).reshape(shape)
    return sae.encode(scaled), scaler.unscale(sae(scaled)).flatten(1)


def _is_in_training(path: Path) -> bool:
    return str(json.loads((path / "cfg.json").read_text())["architecture"]).endswith("batchtopk")


def _in_training(path: Path, x: Tensor) -> tuple[Tensor, Tensor]:
    """Compute with what SAELens makes of a checkpoint when its training ends."""
    finished = path.parent / f"{path.name}.finished"
    TrainingSAE.load_from_disk(path).save_inference_model(finished)
    found = saelens(finished, x)
    for file in finished.iterdir():
        file.unlink()
    finished.rmdir()
    return found


def dictionary_learning(path: Path, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return latents and reconstruction by dictionary_learning."""
    dictionary, _ = load_dictionary(str(path), "cpu")
    return dictionary.encode(x), dictionary(x)


def sparsify(path: Path, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return latents and reconstruction by sparsify."""
    coder = SparseCoder.load_from_disk(path)
    top, components, _ = coder.encode(x)
    latents = torch.zeros(len(x), coder.num_latents).scatter(1, components, top)
    return latents, coder(x).sae_out


def openai(path: Path, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return latents and reconstruction by OpenAI's code, where a copy of it is named."""
    state = torch.load(path / "ae.pt", weights_only=True)
    tied = "decoder.linear.weight" in state
    module = openai_module()
    if not tied:
        # Its own files of TopK have the rule twice, which its strict reader refuses.
        strict = "activation.k" not in state
        _, latents, explained = module["Autoencoder"].from_state_dict(state, strict=strict)(x)
        return latents, explained
    width, read = state["encoder.weight"].shape
    coder = module["Autoencoder"](width, read, tied=True)
    coder.load_state_dict({k: v for k, v in state.items() if isinstance(v, Tensor)})
    _, latents, explained = coder(x)
    return latents, explained


def openai_module() -> dict[str, Any]:
    """Return the names of ``sparse_autoencoder/model.py``, which no package index has."""
    return runpy.run_path(os.environ["MAD_OPENAI_SAE"])


LIBRARIES = {
    "saelens": saelens,
    "dictionary_learning": dictionary_learning,
    "sparsify": sparsify,
    "openai": openai,
}


def compute(library: str, path: Path, x: Tensor) -> dict[str, Tensor]:
    """Return latents and reconstruction, by name."""
    with torch.no_grad():
        latents, reconstruction = LIBRARIES[library](path, x)
    return {"latents": latents.contiguous(), "reconstruction": reconstruction.contiguous()}


def main(jobs: Path) -> None:
    """Do every job of a JSON list of ``[library, checkpoint, vectors, site, out]``."""
    warnings.simplefilter("ignore")
    for library, path, vectors, site, out in json.loads(jobs.read_text()):
        save_file(compute(library, Path(path), load_file(vectors)[site]), out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
