"""A checkpoint of ApolloResearch/apd, of two instances, and what parts of each answer.

Run with a checkout of the library on the path, and what it requires: ``python -m
tests.formats.peers.apd_made DIRECTORY``.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from spd.experiments.tms.models import TMSSPDModel, TMSSPDModelConfig

INSTANCES, FEATURES, NARROW, COMPONENTS = 2, 5, 2, 3


def make(directory: Path) -> None:
    """Write the checkpoint, inputs, which components are to answer, and the answers."""
    config = TMSSPDModelConfig(
        n_instances=INSTANCES,
        n_features=FEATURES,
        n_hidden=NARROW,
        n_hidden_layers=1,
        C=COMPONENTS,
        bias_val=0.25,
        device="cpu",
    )
    model = TMSSPDModel(config)
    given = torch.rand(4, INSTANCES, FEATURES)
    used = torch.rand(4, INSTANCES, COMPONENTS) < 0.6
    answer = model(given, topk_mask=used)
    directory.mkdir(parents=True)
    torch.save(model.state_dict(), directory / "spd_model_7.pth")
    (directory / "final_config.yaml").write_text(f"C: {COMPONENTS}\nm: null\ntopk: 0.211\n")
    expected = {"given": given, "used": used.float(), "answer": answer.detach()}
    save_file(
        {key: one.clone().contiguous() for key, one in expected.items()},
        directory / "expected.safetensors",
    )


if __name__ == "__main__":
    torch.manual_seed(0)
    make(Path(sys.argv[1]) / "apd_tms")
