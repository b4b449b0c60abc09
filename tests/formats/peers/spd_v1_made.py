"""Run directories of goodfire-ai/spd at its tag v1, that of the paper, made as those of main."""

import sys
from pathlib import Path

import torch
from spd.models.component_model import ComponentModel
from spd.models.component_utils import calc_causal_importances
from torch import nn

from tests.formats.peers.subcomponents_made import HIDDEN, WIDTH, Target, factors, kept, matrices


def make(directory: Path) -> None:
    """Write a run with gates that have a hidden layer, and one with gates of a single weight."""
    for neurons in (0, HIDDEN):
        target = Target(nn.Linear(4, 3))
        model = ComponentModel(
            target, ["embed", "block.linear", "block.out_proj"], WIDTH, neurons, None
        )
        for path, matrix in matrices(target).items():
            own = model.components[path.replace(".", "-")]
            own.A.data, own.B.data = factors(matrix.detach())
        paths = list(matrices(target))
        _, given = model.forward_with_pre_forward_cache_hooks(
            torch.tensor([[0, 3, 6], [1, 2, 5]]), module_names=paths
        )
        importances, _ = calc_causal_importances(
            pre_weight_acts=given,
            As={path: model.components[path.replace(".", "-")].A for path in paths},
            gates={path: model.gates[path.replace(".", "-")] for path in paths},
        )
        settings = f"C: {WIDTH}\nn_ci_mlp_neurons: {neurons}\npnorm: 2.0\n"
        # Below zero v1 leaks, where nothing is active either way.
        importances = {path: one.clamp_min(0) for path, one in importances.items()}
        expected = {"given": given, "importance": importances}
        kept(directory / f"spd_v1_{neurons}", model.state_dict(), settings, expected)


if __name__ == "__main__":
    torch.manual_seed(0)
    make(Path(sys.argv[1]))
