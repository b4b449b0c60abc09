"""What the run directories made by goodfire-ai/spd are of: a small model, and its factors.

The weights are random, and the subcomponents a singular value decomposition of them, so that they
add up to the matrix.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

WIDTH = 3
HIDDEN = 5


class Block(nn.Module):
    """A square linear layer without a bias, and one that transformers keeps transposed."""

    def __init__(self, out: nn.Module) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4, bias=False)
        self.out_proj = out

    def forward(self, x: Tensor) -> Tensor:
        """Return the second layer's output."""
        answer: Tensor = self.out_proj(torch.relu(self.linear(x)))
        return answer


class Target(nn.Module):
    """Tokens to numbers."""

    def __init__(self, out: nn.Module) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.block = Block(out)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return numbers for each token."""
        answer: Tensor = self.block(self.embed(tokens))
        return answer


def factors(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest singular triples of a matrix, source by target."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    return left[:, :WIDTH] * values[:WIDTH], right[:WIDTH]


def matrices(target: Target) -> dict[str, Tensor]:
    """Return the matrices by path, source by target."""
    out = target.block.out_proj
    own: Tensor = out.weight  # type: ignore[assignment]  # a parameter
    return {
        "embed": target.embed.weight,
        "block.linear": target.block.linear.weight.T,
        "block.out_proj": own if type(out).__name__ == "Conv1D" else own.T,
    }


def kept(
    directory: Path,
    state: Mapping[str, Tensor],
    settings: str,
    expected: Mapping[str, Mapping[str, Tensor]],
) -> None:
    """Write one run directory, with what the library computes beside it."""
    directory.mkdir(parents=True)
    torch.save(dict(state), directory / "model_10.pth")
    (directory / "final_config.yaml").write_text(settings)
    flat = {
        f"{kind}/{path}": tensor.detach().clone().contiguous()
        for kind, tensors in expected.items()
        for path, tensor in tensors.items()
    }
    save_file(flat, directory / "expected.safetensors")
