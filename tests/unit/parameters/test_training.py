"""Training a stochastic parameter decomposition: what it promises of models and of itself."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mad.components.parameters.importance import ScalarImportance
from mad.components.parameters.layers import matrix_layer
from mad.components.parameters.subcomponents import Subcomponents
from mad.components.parameters.training.passes import Mask
from mad.components.parameters.training.plan import LayerPlan, SpdPlan
from mad.components.parameters.training.training import SpdTraining
from mad.components.parameters.training.twin import Twin
from mad.errors import ConfigError
from tests.unit.parameters.models import Pictures, Tied, Words

TIED = SpdPlan(
    layers=(LayerPlan("linear1", 8), LayerPlan("linear2", 8)),
    ties=(("linear1", "linear2"),),
    warm_up_steps=5,
    steps=6,
    batch_size=64,
)


def sparse(rows: int, seed: int, *, features: int = 5, rate: float = 0.05) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(rows, features, generator=generator)
    return values * (torch.rand(rows, features, generator=generator) < rate)


def masked_by_ones(model: nn.Module, names: list[str], given: Tensor) -> tuple[Tensor, Tensor]:
    """Return a model's output, and that of its twin with every piece times one."""
    layers = [matrix_layer(model, name) for name in names]
    twin, masks, inner = Twin(model, layers), {}, {}
    looked = twin.look(given)
    for layer in layers:
        v = torch.randn(layer.source, 3, requires_grad=True)
        u = torch.randn(3, layer.target, requires_grad=True)
        piece = Subcomponents(layer, v, u, _importance(3))
        inner[layer.name] = twin.inner(looked, piece)
        ones = torch.ones_like(inner[layer.name])
        masks[layer.name] = piece, Mask(ones.detach(), ones[..., :1].detach())
    return model(given), twin.masked(looked, given, inner, masks)


def _importance(width: int) -> ScalarImportance:
    one = torch.ones(width, 1)
    return ScalarImportance(one, one, one, one[:, 0])


@pytest.mark.parametrize(
    ("model", "names", "given"),
    [
        (Tied(), ["linear1", "linear2"], torch.rand(4, 5)),
        (Pictures(), ["seen", "read"], torch.randn(2, 2, 6, 6)),
        (Words(), ["embed", "mixed", "read"], torch.tensor([[0, 1, 2], [6, 5, 1]])),
    ],
    ids=["linear", "conv2d", "embedding"],
)
def test_pieces_that_all_take_part_make_the_model(
    model: nn.Module, names: list[str], given: Tensor
) -> None:
    wanted, output = masked_by_ones(model, names, given)
    torch.testing.assert_close(output, wanted, atol=1e-5, rtol=1e-5)


def test_the_monitored_model_is_left_as_it_is() -> None:
    model = Tied().train()
    before = copy.deepcopy(model)
    training = SpdTraining.begin(model, TIED, sparse(64, 0))
    training.step(sparse(64, 1))
    assert model.training
    assert isinstance(model.linear1, nn.Linear)
    assert all(one.grad is None for one in model.parameters())
    assert all(one.requires_grad for one in model.parameters())
    for one, other in zip(model.parameters(), before.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_is_tied_stays_tied() -> None:
    training = SpdTraining.begin(Tied(), TIED, sparse(64, 0))
    for step in range(TIED.steps):
        training.step(sparse(64, step))
    first, second = training.finish()
    assert torch.equal(first.v, second.u.T)
    assert torch.equal(first.u, second.v.T)
    assert isinstance(first.importance, ScalarImportance)
    assert isinstance(second.importance, ScalarImportance)
    assert not torch.equal(first.importance.w_in, second.importance.w_in)


@pytest.mark.parametrize(
    "plan",
    [
        TIED,
        replace(TIED, subset_coefficient=1.0, p_final=0.5, clip=0.1, frequency_coefficient=1e-3),
        replace(TIED, adversarial_coefficient=0.5, penalty="smooth_l0", gamma_final=0.01),
        replace(TIED, adversarial_coefficient=0.5, adversary_scope="each", importance="vector"),
        replace(TIED, faithfulness_coefficient=1.0, delta=False, importance="shared"),
    ],
)
def test_a_training_goes_on_exactly_where_it_stopped(plan: SpdPlan) -> None:
    batches = [sparse(64, step) for step in range(plan.steps)]
    whole = SpdTraining.begin(Tied(), plan, batches[0])
    for batch in batches:
        whole.step(batch)
    stopped = SpdTraining.begin(Tied(), plan, batches[0])
    for batch in batches[:3]:
        stopped.step(batch)
    # Another example, or it would begin as the first.
    goes_on = SpdTraining.begin(Tied(), plan, sparse(64, 99, rate=0.5))
    goes_on.restore({name: one.clone() for name, one in stopped.state.items()})
    figures = [goes_on.step(batch) for batch in batches[3:]]
    assert all(math.isfinite(one.loss) for one in figures)
    assert whole.state.keys() == goes_on.state.keys()
    for name, one in whole.state.items():
        assert torch.equal(one, goes_on.state[name]), name


def test_shared_weights_must_be_declared() -> None:
    with pytest.raises(ConfigError, match="hold one parameter"):
        SpdTraining.begin(Tied(), replace(TIED, ties=()), sparse(64, 0))


def test_declared_ties_must_be_there() -> None:
    model = Tied()
    with torch.no_grad():
        model.linear2.weight = nn.Parameter(2 * model.linear2.weight)
    with pytest.raises(ConfigError, match="declared as tied, but their weights differ"):
        SpdTraining.begin(model, TIED, sparse(64, 0))


def test_a_layer_that_is_not_there_is_named_with_those_that_are() -> None:
    plan = replace(TIED, layers=(LayerPlan("linear9", 8),), ties=())
    with pytest.raises(ConfigError, match=r"'linear9'; it has linear1, linear2"):
        SpdTraining.begin(Tied(), plan, sparse(64, 0))


def test_too_few_pieces_need_a_delta_component() -> None:
    layers = (LayerPlan("linear1", 1), LayerPlan("linear2", 1))
    plan = replace(TIED, layers=layers, delta=False, faithfulness_coefficient=1.0)
    with pytest.raises(ConfigError, match="matrix of rank 2, which 1 subcomponents"):
        SpdTraining.begin(Tied(), plan, sparse(64, 0))
    SpdTraining.begin(Tied(), replace(plan, delta=True), sparse(64, 0))


def test_a_loss_that_is_not_finite_ends_the_run() -> None:
    training = SpdTraining.begin(Tied(), TIED, sparse(64, 0))
    training.step(sparse(64, 1))
    with pytest.raises(ConfigError, match="diverged at step 2"):
        training.step(torch.full((64, 5), math.nan))


class Twice(nn.Module):
    """A layer that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 5)

    def forward(self, given: Tensor) -> Tensor:
        output: Tensor = self.linear(self.linear(given))
        return output


def test_a_layer_that_runs_twice_is_refused() -> None:
    plan = replace(TIED, layers=(LayerPlan("linear", 4),), ties=())
    with pytest.raises(ConfigError, match="called 2 times"):
        SpdTraining.begin(Twice(), plan, sparse(64, 0))
