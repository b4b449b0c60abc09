"""Layers as matrices: rows times matrix, shaped, is what the module answers."""

import pytest
import torch
from torch import nn

from mad.components.parameters.layers import bias_of, matrix_layer, matrix_of
from mad.errors import ConfigError


class Conv1D(nn.Module):
    """Linear, with the transposed weights that GPT-2 of transformers keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(6.0).reshape(2, 3))
        self.bias = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply from the right."""
        return x @ self.weight + self.bias


LAYERS = {
    "linear": (nn.Linear(5, 3), (4, 7, 5)),
    "linear without bias": (nn.Linear(5, 3, bias=False), (4, 5)),
    "conv1d": (Conv1D(), (4, 7, 2)),
    "conv2d": (
        nn.Conv2d(2, 5, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
        (4, 2, 9, 8),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_rows_times_the_matrix_are_what_the_layer_answers(name: str) -> None:
    """Whatever the layer, its output is rows @ matrix + bias."""
    module, shape = LAYERS[name]
    given = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(module)
    layer = matrix_layer(model, "0")
    out = layer.rows(given) @ matrix_of(model, layer) + bias_of(model, layer)
    torch.testing.assert_close(layer.shaped(out, given), module(given))


def test_an_embedding_looks_up_what_one_hot_rows_would_give() -> None:
    """Token ids are rows of the identity."""
    model = nn.Sequential(nn.Embedding(6, 3))
    layer = matrix_layer(model, "0")
    ids = torch.tensor([[0, 5, 2]])
    matrix = matrix_of(model, layer)
    torch.testing.assert_close(layer.rows(ids) @ matrix, model(ids))
    torch.testing.assert_close(layer.inner(ids, matrix), model(ids))


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (nn.LayerNorm(3), "LayerNorm"),
        (nn.Conv2d(4, 4, 1, groups=2), "groups = 2"),
        (nn.Conv2d(4, 4, 1, padding="same"), "'same'"),
        (nn.Embedding(4, 4, max_norm=1.0), "max_norm"),
    ],
)
def test_what_is_no_single_matrix_is_refused(module: nn.Module, said: str) -> None:
    """The message says what it is and what to name instead."""
    with pytest.raises(ConfigError, match=said):
        matrix_layer(nn.Sequential(module), "0")


def test_a_name_that_no_module_has_is_refused_with_those_there_are() -> None:
    """So that a slip of the pen is seen."""
    with pytest.raises(ConfigError, match="'1'; it has 0"):
        matrix_layer(nn.Sequential(nn.Linear(2, 2)), "1")
