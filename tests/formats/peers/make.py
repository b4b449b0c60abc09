"""Make checkpoints with the libraries themselves, and note what they compute with them.

    python -m tests.formats.peers.make DIRECTORY [--large]

Into the directory go ``vectors.safetensors``, a directory a checkpoint, what to expect of it in
``expected.safetensors``, and ``cases.json``. OpenAI's are made where MAD_OPENAI_SAE names a copy of
``model.py``, of commit 4965b94 of github.com/openai/sparse_autoencoder.
"""

import json
import os
import sys
import warnings
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.formats.peers.activations import vectors
from tests.formats.peers.compute import compute
from tests.formats.peers.maker import Maker
from tests.formats.peers.others_made import dictionary_learning, openai, sparsify
from tests.formats.peers.saelens_made import saelens


def make(root: Path, *, large: bool) -> None:
    """Make every checkpoint, and what to expect of it."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    root.mkdir(parents=True, exist_ok=True)
    found = vectors(32, count=256) if large else vectors(8, count=512)
    maker = Maker(root, found, latents=96 if large else 16, k=8 if large else 3)
    kept = {site: value[: 256 if large else 8].clone() for site, value in found.items()}
    save_file(kept, root / "vectors.safetensors")
    libraries = [saelens, dictionary_learning, sparsify]
    if "MAD_OPENAI_SAE" in os.environ:
        libraries.append(openai)
    cases = [case for library in libraries for case in library(maker)]
    for case in cases:
        expected = compute(case.format, root / case.name, kept[case.reads or case.site])
        save_file(expected, root / case.name / "expected.safetensors")
    versions = {name: version(name) for name in ("sae-lens", "eai-sparsify", "dictionary-learning")}
    text = json.dumps({"versions": versions, "cases": [asdict(case) for case in cases]}, indent=1)
    (root / "cases.json").write_text(text)


if __name__ == "__main__":
    make(Path(sys.argv[1]), large="--large" in sys.argv)
