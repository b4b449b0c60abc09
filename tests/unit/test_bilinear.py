"""Bilinear layers as dictionaries, against what the layers themselves compute."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mad.components.dictionaries.bilinear import (
    BilinearWeights,
    bilinear_dictionary,
    bilinear_of,
)
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.files import load_dictionaries, save_dictionaries
from mad.components.dictionaries.kinds.bilinear import BilinearEncoder
from mad.components.dictionaries.look import Look
from mad.components.pooling import Pooling
from mad.errors import ConfigError

LOOK = Look(("in",), ("out",), "last")
EVERY = 10_000


class Gated(nn.Module):
    """A bilinear layer, or what it becomes with an activation."""

    def __init__(self, *, bias: bool = True, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.one = nn.Linear(6, 9, bias=bias)
        self.two = nn.Linear(6, 9, bias=bias)
        self.last = nn.Linear(9, 4, bias=bias)
        self.activation = activation or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.activation(self.one(x)) * self.two(x))
        return out


class Packed(nn.Module):
    """Both sides in one layer, and the products are the output."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleDict({"both": nn.Linear(5, 14)})

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.inner["both"](x).chunk(2, dim=-1)
        out: Tensor = first * second
        return out


def drawn(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def weights(dtype: torch.dtype = torch.float64) -> BilinearWeights:
    """Return a layer from six coordinates through nine products to four, with biases."""
    shapes = ((9, 6), (9, 6), (9,), (9,), (4, 9), (4,))
    return BilinearWeights(
        *(drawn(*shape, seed=seed, dtype=dtype) for seed, shape in enumerate(shapes))
    )


def rebuilt(one: Dictionary, x: Tensor) -> Tensor:
    latents = one.encoder.encode(x)
    return latents.explained(one.decoder) + one.target.centre


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_all_components_together_are_the_layer(dtype: torch.dtype, within: float) -> None:
    own, x = weights(dtype), drawn(30, 6, seed=7, dtype=dtype)
    one = bilinear_dictionary(
        replace(own, out_bias=torch.zeros(4, dtype=dtype)), look=LOOK, k=EVERY
    )
    expected = own(x) - own.out_bias
    assert (rebuilt(one, x) - expected).abs().max() <= within * expected.abs().max()


def test_nothing_is_left_over_of_the_layers_own_outputs() -> None:
    module = Gated()
    found = bilinear_of(module, left="one", right="two", out="last")
    one = bilinear_dictionary(found, look=LOOK, k=EVERY)
    x = drawn(30, 6, seed=8, dtype=torch.float32)
    with torch.no_grad():
        activity = one.activity({"in": x, "out": module(x)})["out"]
    assert activity.residual.abs().max() < 1e-5
    # Four outputs, each a form of six coordinates and a constant.
    assert activity.num_components == one.width == 4 * 7


def test_magnitudes_are_forms_along_orthonormal_directions_of_the_output() -> None:
    one, x = bilinear_dictionary(weights(), look=LOOK, k=EVERY), drawn(20, 6, seed=9)
    along = weights().leading()
    torch.testing.assert_close(along @ along.T, torch.eye(4).double())
    signs = (one.decoder @ along.T).round()
    values = one.encoder.encode(x).dense(one.width)
    expected = (weights()(x) - weights().out_bias) @ along.T
    torch.testing.assert_close(values @ signs, expected)
    assert (values >= 0).all()


def test_leading_directions_are_the_singular_ones_of_the_dense_tensor() -> None:
    """Brute force: the tensor of all second derivatives, laid out as a matrix."""
    own = replace(weights(), left_bias=torch.zeros(9).double(), right_bias=torch.zeros(9).double())
    dense = torch.stack(
        [
            torch.autograd.functional.hessian(
                lambda x, i=i: own(x.unsqueeze(0))[0, i], torch.zeros(6).double()
            ).flatten()
            for i in range(4)
        ]
    )
    expected = torch.linalg.svd(dense / 2, full_matrices=False)
    cosines = (own.leading() * expected.U.T).sum(dim=1).abs()
    torch.testing.assert_close(cosines, torch.ones(4).double())
    energy = strengths(bilinear_dictionary(own, look=LOOK, k=1)).square().sum()
    torch.testing.assert_close(energy, expected.S.square().sum())


def strengths(one: Dictionary) -> Tensor:
    assert isinstance(one.encoder, BilinearEncoder)
    return one.encoder.strengths


def test_components_stand_in_the_order_of_their_energy_and_rank_keeps_the_first() -> None:
    whole = bilinear_dictionary(weights(), look=LOOK, k=EVERY)
    assert (strengths(whole).diff() <= 0).all()
    few = bilinear_dictionary(weights(), look=LOOK, k=EVERY, rank=5)
    torch.testing.assert_close(strengths(few), strengths(whole)[:5])
    torch.testing.assert_close(few.decoder.abs(), whole.decoder[:5].abs())


def test_a_layer_of_one_product_has_two_eigenvectors() -> None:
    """Of sym(w v') the eigenvalues are (w.v +- |w||v|) / 2."""
    left, right = torch.tensor([[2.0, 0.0, 0.0]]).double(), torch.tensor([[3.0, 4.0, 0.0]]).double()
    one = bilinear_dictionary(BilinearWeights.of(left, right), look=LOOK, k=EVERY)
    torch.testing.assert_close(strengths(one), torch.tensor([8.0, 2.0]).double())
    assert one.decoder.sign().prod() == -1


def test_only_the_largest_are_active() -> None:
    x = drawn(20, 6, seed=9)
    whole = bilinear_dictionary(weights(), look=LOOK, k=EVERY).encoder.encode(x).dense(28)
    few = bilinear_dictionary(weights(), look=LOOK, k=3).encoder.encode(x)
    assert few.offsets.diff().tolist() == [3] * 20
    least = whole.sort(dim=1, descending=True).values[:, 2:3]
    torch.testing.assert_close(few.dense(28), torch.where(whole >= least, whole, 0.0))


def test_given_directions_explain_what_lies_in_their_span() -> None:
    own, x = replace(weights(), out_bias=torch.zeros(4).double()), drawn(20, 6, seed=9)
    leaning = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]]).double()
    one = bilinear_dictionary(own, look=LOOK, k=EVERY, directions=leaning)
    expected = own(x) * torch.tensor([1.0, 1.0, 0.0, 0.0]).double()
    torch.testing.assert_close(rebuilt(one, x), expected)


def test_it_is_written_and_read_back_bit_for_bit(tmp_path: Path) -> None:
    one = bilinear_dictionary(weights(torch.float32), look=LOOK, k=3, rank=20)
    save_dictionaries(tmp_path, [one], seen=torch.tensor([1]))
    again = load_dictionaries(tmp_path)
    assert again.parts[0].fingerprint == one.fingerprint
    activations = {
        "in": drawn(5, 6, seed=1, dtype=torch.float32),
        "out": drawn(5, 4, seed=2, dtype=torch.float32),
    }
    expected = one.activity(activations)["out"]
    found = again.activity(activations)["out"]
    assert torch.equal(found.residual, expected.residual)
    assert torch.equal(found.components, expected.components)


def test_a_packed_layer_is_halved() -> None:
    module, x = Packed(), drawn(10, 5, seed=3, dtype=torch.float32)
    found = bilinear_of(module, left="inner.both", right="inner.both")
    torch.testing.assert_close(found(x), module(x))


@pytest.mark.parametrize("training", [False, True])
def test_a_module_keeps_its_mode_and_weights(*, training: bool) -> None:
    module = Gated(activation=nn.Dropout(0.5)).train(training)
    module.two.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    bilinear_of(module, left="one", right="two", out="last")
    assert (module.training, module.two.training) == (training, False)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize(
    ("module", "names", "message"),
    [
        (Gated(), ("one", "three", "last"), r"has no 'three'; it has 'one', 'two', 'last'"),
        (Gated(), ("one", "activation", "last"), r"'activation' is a Identity; name a torch.nn"),
        (Gated(), ("one", "last", None), r"'one' is 9 by 6 and 'last' 4 by 9: .* must be alike"),
        (Gated(), ("one", "two", "one"), r"'one' takes 6 inputs, and 'one' gives 9"),
        (Gated(), ("one", "two", None), r"computes something else"),
        (Gated(activation=nn.SiLU()), ("one", "two", "last"), r"an activation between them"),
        (Gated(activation=nn.Flatten(0)), ("one", "two", "last"), r"does not map vectors"),
    ],
)
def test_what_is_not_bilinear_is_refused(
    module: nn.Module, names: tuple[str, str, str | None], message: str
) -> None:
    left, right, out = names
    with pytest.raises(ConfigError, match=message):
        bilinear_of(module, left=left, right=right, out=out)


@pytest.mark.parametrize("pooling", ["mean", "max", "mean_max"])
def test_poolings_that_mix_positions_are_refused(pooling: Pooling) -> None:
    with pytest.raises(ConfigError, match=rf"which '{pooling}' pooling mixes"):
        bilinear_dictionary(weights(), look=replace(LOOK, pooling=pooling), k=1)


def test_directions_of_another_space_and_weights_of_zero_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"have 3 coordinates, and the bilinear layer 4"):
        bilinear_dictionary(weights(), look=LOOK, k=1, directions=torch.eye(3).double())
    nothing = BilinearWeights.of(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ConfigError, match="are zero"):
        bilinear_dictionary(nothing, look=LOOK, k=1)
