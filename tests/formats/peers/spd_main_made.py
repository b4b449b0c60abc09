"""Run directories of goodfire-ai/spd on main, and the importances that it computes for them.

Run with a checkout of its main branch on the path, and what it requires: ``python -m
tests.formats.peers.spd_main_made DIRECTORY``.
"""

import sys
from pathlib import Path

import torch
from spd.configs import ModulePatternInfoConfig
from spd.identity_insertion import insert_identity_operations_
from spd.models.component_model import ComponentModel
from spd.utils.module_utils import ModulePathInfo
from transformers.pytorch_utils import Conv1D

from tests.formats.peers.subcomponents_made import HIDDEN, WIDTH, Target, factors, kept, matrices


def make(directory: Path) -> None:
    """Write a run of each kind of importance, and one with an identity inserted."""
    for kind in ("mlp", "vector_mlp", "shared_mlp", "identity"):
        target = Target(Conv1D(3, 4)).requires_grad_(requires_grad=False)
        paths = ["block.linear", "block.out_proj", *(["embed"] if kind == "mlp" else [])]
        if kind == "identity":
            insert_identity_operations_(
                target,
                identity_module_info=[ModulePatternInfoConfig(module_pattern="block.linear", C=2)],
            )
            paths.append("block.linear.pre_identity")
        ci_fn_type = "mlp" if kind == "identity" else kind
        model = ComponentModel(
            target_model=target,
            module_path_info=[ModulePathInfo(path, WIDTH) for path in paths],
            ci_fn_type=ci_fn_type,
            ci_fn_hidden_dims=[HIDDEN],
            sigmoid_type="leaky_hard",
            pretrained_model_output_attr=None,
        )
        for path, matrix in matrices(target).items():
            if path in paths:
                model.components[path].V.data, model.components[path].U.data = factors(matrix)
        given = model(torch.tensor([[0, 3, 6], [1, 2, 5]]), cache_type="input").cache
        importances = model.calc_causal_importances(given, sampling="continuous").lower_leaky
        settings = (
            f"seed: 0\nci_fn_type: {ci_fn_type}  # a comment\nci_fn_hidden_dims:\n- {HIDDEN}\n"
            "sigmoid_type: 'leaky_hard'\nmodule_info:\n- module_pattern: embed\n  C: 3\n"
        )
        expected = {"given": given, "importance": importances}
        kept(directory / f"spd_{kind}", model.state_dict(), settings, expected)


if __name__ == "__main__":
    torch.manual_seed(0)
    make(Path(sys.argv[1]))
