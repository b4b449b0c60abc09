"""What is said of pieces whose mechanisms are known: literal matrices in, figures out."""

import torch

from mad.bench.truth.found import Found, likeness
from mad.bench.truth.resid_mlp import ResidMlpTask
from mad.bench.truth.tms import Tms, TmsTask, represented, sparse


def test_pieces_that_are_columns_are_alike_and_of_their_length() -> None:
    matrix = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    v = torch.tensor([[1.0, 0.0, 1e-4], [0.0, -1.0, 1.0]])
    u = torch.tensor([[2.4, 3.2], [0.0, -2.0], [3.0, 4.0]])
    # The third piece has the first feature's direction exactly, and next to no length.
    mmcs, ml2r = likeness(matrix, v, u)
    assert abs(mmcs - 1.0) < 1e-6
    assert abs(ml2r - (4.0 / 5.0 + 2.0 / 2.0) / 2) < 1e-6


def test_importances_of_features_alone_are_counted() -> None:
    importance = torch.tensor([[0.0, 1.0, 0.05, 0.0], [0.8, 0.3, 0.0, 0.0]])
    found = Found.of(importance)
    assert found.alive == 2
    assert found.active == 1.5
    assert abs(found.largest - 0.9) < 1e-6
    assert found.identity_error == 2


def test_a_feature_that_shares_its_direction_is_not_represented() -> None:
    weight = torch.tensor([[1.0, 0.9, 0.0], [0.0, 0.0, 1.0]])
    model = Tms(weight, torch.zeros(3))
    assert represented(model).tolist() == [True, False, True]


def test_an_inserted_identity_changes_no_answer() -> None:
    task = TmsTask(3, 2, 256, steps=20)
    given = sparse(8, 3, torch.Generator().manual_seed(0), rate=0.5)
    plain, inserted = task.trained(0), TmsTask(3, 2, 256, identity=True, steps=20).trained(0)
    torch.testing.assert_close(inserted(given), plain(given))
    assert plain.linear1.weight.data_ptr() == plain.linear2.weight.data_ptr()


def test_a_residual_network_learns_in_its_folded_form() -> None:
    task = ResidMlpTask(features=4, neurons=4, layers=1, stream=32, batch=256, steps=300)
    model, _ = task.trained(0)
    given = 2 * torch.rand(64, 4, generator=torch.Generator().manual_seed(1)) - 1
    given = given * torch.eye(4).repeat(16, 1)
    wanted = given + torch.relu(given)
    missed = (model(given) - wanted).square().mean()
    # Without its layers it would miss all of the second half.
    assert missed < 0.9 * torch.relu(given).square().mean()
