"""Attribution-based decomposition: selections and losses worked out by hand."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mad.components.parameters.apd.attributions import most_of_batch, most_of_each
from mad.components.parameters.apd.components import Components, Factors
from mad.components.parameters.apd.losses import hidden_error, simplicity, unfaithfulness
from mad.components.parameters.apd.passes import Visited
from mad.components.parameters.apd.plan import ApdPlan, HiddenPlan
from mad.components.parameters.apd.training import ApdTraining
from mad.components.parameters.layers import matrix_layer, matrix_of
from mad.errors import ConfigError
from tests.unit.parameters.models import Mixed


def test_all_components_write_what_the_layer_does() -> None:
    """Singular pieces add up to the matrix, at patches as at vectors."""
    model, batch = Mixed(), torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    components = {}
    for name in ("patches", "query", "key", "out"):
        layer = matrix_layer(model, name)
        left, values, right = torch.linalg.svd(matrix_of(model, layer), full_matrices=False)
        a, b = (left * values).T.unsqueeze(2), right.unsqueeze(1)
        nothing = 4 - len(values)
        a = torch.cat([a, torch.zeros(nothing, *a.shape[1:])])
        components[name] = Factors(layer, a, torch.cat([b, torch.zeros(nothing, *b.shape[1:])]))
    visited = Visited(model, [one.layer for one in components.values()])
    output, returned = visited.with_components(batch, components, torch.ones(5, 4))
    seen = visited.look(batch)
    torch.testing.assert_close(output, seen.output)
    torch.testing.assert_close(returned["patches"], seen.returned["patches"])
    assert not model.patches._forward_hooks


def test_the_largest_of_a_batch_and_of_each_input() -> None:
    found = torch.tensor([[5.0, 4.0, 3.0], [2.0, 1.0, 0.0]])
    assert most_of_batch(found, active=1.5).tolist() == [[1, 1, 1], [0, 0, 0]]
    assert most_of_each(found, active=1).tolist() == [[1, 0, 0], [1, 0, 0]]


def one_layer() -> tuple[nn.Module, Components]:
    """Two components of rank two of a layer of two by two: 3 and 4 long, and 1 and 0."""
    model = nn.Sequential(nn.Linear(2, 2))
    a = torch.tensor([[[3.0, 0.0], [0.0, 2.0]], [[1.0, 0.0], [0.0, 0.0]]])
    b = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[0.0, 1.0], [0.0, 0.0]]])
    return model, {"0": Factors(matrix_layer(model, "0"), a, b)}


def test_simplicity_is_the_norm_of_what_is_used() -> None:
    """To the power 1, 3 + 4 for the first and 1 for the second; over four weights."""
    _, components = one_layer()
    used = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert float(simplicity(components, used, p=1.0)) == pytest.approx((7 + 8) / 2 / 4)
    assert float(simplicity(components, used, p=0.5)) == pytest.approx(
        (2 * (math.sqrt(3) + 2) + 1) / 2 / 4, rel=1e-3
    )


def test_faithfulness_is_the_mean_square_of_what_is_missed() -> None:
    """All add up to [[3, 1], [0, 4]]."""
    _, components = one_layer()
    matrices = {"0": torch.tensor([[3.0, 1.0], [2.0, 0.0]])}
    assert float(unfaithfulness(components, matrices)) == pytest.approx((4 + 16) / 4)


def test_hidden_activations_are_compared_behind_the_relu() -> None:
    plan = HiddenPlan(layers=("0",))
    wanted, found = {"0": torch.tensor([[1.0, -3.0]])}, {"0": torch.tensor([[3.0, -9.0]])}
    assert float(hidden_error(plan, wanted, found)) == pytest.approx(2.0)
    assert float(hidden_error(replace(plan, relu=False), wanted, found)) == pytest.approx(20.0)


PLAN = ApdPlan(layers=("0", "2"), components=4, active=1.0, steps=20, batch_size=16, rate=1e-2)


def model() -> nn.Module:
    """Return a small network."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))


def batches(count: int) -> list[Tensor]:
    """Return inputs."""
    generator = torch.Generator().manual_seed(5)
    return [torch.rand(16, 3, generator=generator) for _ in range(count)]


VARIANTS = [
    PLAN,
    replace(PLAN, selection="input", active=2.0, p=0.9, schedule="cosine"),
    replace(PLAN, unit_norm=True, rank=1, hidden=HiddenPlan(layers=("0",))),
]


@pytest.mark.parametrize("plan", VARIANTS)
def test_a_training_that_stopped_goes_on_to_the_same_bits(plan: ApdPlan) -> None:
    whole, first, second = (ApdTraining.begin(model(), plan) for _ in range(3))
    given = batches(6)
    figures = [whole.step(batch) for batch in given]
    for batch in given[:3]:
        first.step(batch)
    kept = {name: one.clone() for name, one in first.state.items()}
    first.step(given[3])
    second.restore(kept)
    assert [second.step(batch) for batch in given[3:]] == figures[3:]
    for name, one in whole.finish().items():
        assert torch.equal(second.finish()[name].a, one.a)
        assert torch.equal(second.finish()[name].b, one.b)


@pytest.mark.parametrize("plan", VARIANTS)
def test_training_lessens_the_loss_and_leaves_the_model(plan: ApdPlan) -> None:
    watched = model()
    before = {name: one.clone() for name, one in watched.state_dict().items()}
    training = ApdTraining.begin(watched, replace(plan, steps=40, simplicity_coefficient=1e-3))
    figures = [training.step(batch) for batch in batches(40)]
    assert figures[-1].faithfulness < 0.5 * figures[0].faithfulness
    assert all(torch.equal(before[name], one) for name, one in watched.state_dict().items())
    assert not any(one._forward_hooks for one in watched.modules())


def test_columns_of_length_one_stay_so() -> None:
    training = ApdTraining.begin(model(), replace(PLAN, unit_norm=True, rate=1e-4))
    for batch in batches(5):
        training.step(batch)
    for one in training.finish().values():
        torch.testing.assert_close(
            one.a.norm(dim=1), torch.ones(4, one.a.shape[2]), rtol=0, atol=1e-3
        )


def test_tied_layers_share_their_components() -> None:
    first, second = nn.Linear(3, 2, bias=False), nn.Linear(2, 3, bias=False)
    second.weight = nn.Parameter(first.weight.detach().T)
    tied = nn.Sequential(first, second)
    plan = replace(PLAN, layers=("0", "1"))
    with pytest.raises(ConfigError, match="hold one parameter"):
        ApdTraining.begin(tied, plan)
    found = ApdTraining.begin(tied, replace(plan, ties=(("0", "1"),))).finish()
    torch.testing.assert_close(found["0"].matrices, found["1"].matrices.mT)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layers": ()}, "name at least one"),
        ({"components": 0}, "components is 0"),
        ({"active": 5.0}, "active is 5, and must be from 0.0625 to the 4 components"),
        ({"active": 1.5, "selection": "input"}, "a whole number where each input"),
        ({"p": 0.0}, "p is 0"),
        ({"warm_up": 1.0}, "warm_up is 1"),
        ({"hidden": HiddenPlan(layers=("1",))}, "hidden.layers has"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(PLAN, **change)  # type: ignore[arg-type]  # wrong on purpose


def test_components_that_cannot_add_up_are_refused() -> None:
    with pytest.raises(
        ConfigError, match="'0' has a matrix of rank 3, which 2 components of rank 1"
    ):
        ApdTraining.begin(model(), replace(PLAN, components=2, active=1.0, rank=1))


def test_a_layer_that_runs_twice_is_refused() -> None:
    shared = nn.Linear(3, 3)
    training = ApdTraining.begin(nn.Sequential(shared, shared), replace(PLAN, layers=("0",)))
    with pytest.raises(ConfigError, match="'0' is called 2 times"):
        training.step(batches(1)[0])
