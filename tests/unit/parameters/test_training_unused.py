"""What no input of a training has used of a matrix becomes pieces of its own."""

import pytest
import torch
from torch import Tensor, nn

from mad.components.parameters.decomposition import ParameterDecomposition
from mad.components.parameters.importance import (
    ImportanceFunction,
    ScalarImportance,
    SharedImportance,
    VectorImportance,
)
from mad.components.parameters.layers import matrix_layer, matrix_of
from mad.components.parameters.subcomponents import Subcomponents
from mad.components.parameters.training.thresholds import beside
from mad.components.parameters.training.twin import Twin
from mad.components.parameters.training.unused import with_unused
from tests.unit.parameters.models import Tied, Words

NEVER = 4


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def scalar(width: int, *, hidden: int = 3) -> ScalarImportance:
    return ScalarImportance(
        drawn(width, hidden, seed=1), drawn(width, hidden, seed=2), drawn(width, hidden, seed=3),
        drawn(width, seed=4),
    )  # fmt: skip


def completed(model: nn.Module, name: str, given: Tensor) -> tuple[Subcomponents, Subcomponents]:
    """Return eight random pieces of a layer, and what becomes of them."""
    layer = matrix_layer(model, name)
    v, u = drawn(layer.source, 8, seed=5), drawn(8, layer.target, seed=6)
    before = Subcomponents(layer, v, u, scalar(8))
    (after,) = with_unused(
        Twin(model, [layer]),
        [before],
        {name: matrix_of(model, layer)},
        early=given[::2].split(32),
        late=given[1::2].split(32),
    )
    return before, after


def usual(rows: int, *, seed: int = 0) -> Tensor:
    """Draw inputs of a pentagon that never have one of its features."""
    given = drawn(rows, 5, seed=seed).abs()
    given[:, NEVER] = 0.0
    return given


def test_a_feature_that_is_never_there_has_a_piece_of_its_own() -> None:
    model = Tied()
    _, after = completed(model, "linear1", usual(400))
    assert after.width == 9
    assert torch.equal(after.v[:, 8], torch.eye(5)[NEVER])
    torch.testing.assert_close(after.u[8], model.linear1.weight[:, NEVER].detach())


def test_it_is_active_where_the_feature_is_there_and_nothing_else_knows_of_it() -> None:
    model, given = Tied(), usual(100, seed=9)
    before, after = completed(model, "linear1", usual(400))
    old, new = (ParameterDecomposition.of(model, [one]) for one in (before, after))
    odd = given.clone()
    odd[:, NEVER] = 0.5
    zeros = torch.zeros(100, 2)
    was = old.active({"linear1<": given, "linear1": zeros})["linear1"]
    found = new.active({"linear1<": given, "linear1": zeros})["linear1"]
    found_odd = new.active({"linear1<": odd, "linear1": zeros})["linear1"]
    assert torch.equal(found[:, :8], was)
    assert not found[:, 8].any()
    assert torch.equal(found_odd[:, :8], was)
    assert found_odd[:, 8].all()


def test_less_of_the_matrix_is_missed() -> None:
    model = Tied()
    matrix = model.linear1.weight.T.detach()
    before, after = completed(model, "linear1", usual(400))
    assert not torch.allclose((before.v @ before.u)[NEVER], matrix[NEVER])
    torch.testing.assert_close((after.v @ after.u)[NEVER], matrix[NEVER])


def test_a_direction_that_is_no_coordinate_is_found_too() -> None:
    layer = nn.Linear(3, 2, bias=False)
    plane = torch.linalg.qr(drawn(3, 3, seed=7)).Q
    _, after = completed(nn.Sequential(layer), "0", drawn(400, 2, seed=8) @ plane[:2])
    assert after.width == 9
    assert float((after.v[:, 8] @ plane[2]).abs()) == pytest.approx(1.0, abs=1e-6)
    torch.testing.assert_close(after.v[:, 8] @ after.v[:, :8], torch.zeros(8), atol=1e-5, rtol=0.0)


@pytest.mark.parametrize(
    "given",
    [drawn(400, 5, seed=0).abs(), usual(4), torch.zeros(400, 5), usual(1)],
    ids=["all is used", "too few to know", "nothing is", "no second half"],
)
def test_nothing_is_added_where_nothing_is_known_to_be_unused(given: Tensor) -> None:
    before, after = completed(Tied(), "linear1", given)
    assert after is before


def test_a_rare_feature_is_no_unused_one() -> None:
    given = usual(400)
    given[-1, NEVER] = 0.5
    before, after = completed(Tied(), "linear1", given)
    assert after is before


def test_embeddings_stay_as_they_are() -> None:
    before, after = completed(Words(), "embed", torch.zeros(40, 3, dtype=torch.int64))
    assert after is before


@pytest.mark.parametrize(
    "trained",
    [
        scalar(4),
        scalar(4, hidden=1),
        VectorImportance(
            drawn(4, 5, 1, seed=1), drawn(4, 1, seed=2), drawn(4, 1, seed=3), drawn(4, seed=4)
        ),
        SharedImportance(
            drawn(5, 3, seed=1), drawn(3, seed=2), drawn(3, 4, seed=3), drawn(4, seed=4)
        ),
    ],
    ids=["scalar", "of one unit", "vector", "shared"],
)
def test_importance_of_what_is_added_exceeds_any_threshold_beyond_its_reach(
    trained: ImportanceFunction,
) -> None:
    v, rows = torch.eye(5)[:, 3:], torch.zeros(4, 5)
    rows[:, 3] = torch.tensor([0.2, -0.2, 0.39, 0.6])
    rows[:, 4] = torch.tensor([0.0, 0.39, -0.6, -0.39])
    trained_v = drawn(5, 4, seed=5)
    both = beside(trained, v, reach=0.4)
    logits = both.logits(rows @ torch.cat([trained_v, v], dim=1), rows)
    torch.testing.assert_close(logits[:, :4], trained.logits(rows @ trained_v, rows))
    reached = [[False, False], [False, False], [False, True], [True, False]]
    assert (logits[:, 4:] > 0.0).tolist() == reached
    assert (logits[:, 4:] > 0.9).tolist() == reached
