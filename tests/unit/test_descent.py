"""Steps of training: Adam's own, repeatable, and resumed to the last bit."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mad.components.dictionaries.descent import descend
from mad.components.dictionaries.look import Examples, Look
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.dictionaries.training import Training
from mad.components.moments import Adam

# Wide enough to be screened, and for latents to die.
PLAN = DictionaryPlan(width=8_192, k=8, steps=8, dead_after=500)


def vectors() -> Examples:
    return Examples.own(torch.randn(1_024, 64, generator=torch.Generator().manual_seed(5)))


def begun() -> Training:
    return Training.begin(Look.at("site", "flatten"), vectors(), PLAN)


def trained(training: Training, until: int) -> Mapping[str, Tensor]:
    while training.steps_done < until:
        rows = torch.arange(256) + 256 * (training.steps_done % 4)
        training.step(vectors().take(rows))
    return {name: value.clone() for name, value in training.state.items()}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_steps_are_those_of_adam_however_weights_and_gradients_lie() -> None:
    generator = torch.Generator().manual_seed(0)
    first = [torch.randn(5, 7, generator=generator), torch.randn(7, generator=generator)]
    ours = [one.detach().requires_grad_() for one in (first[0].clone().T, *first)]
    theirs = [one.detach().clone().contiguous().requires_grad_() for one in ours]
    assert not ours[0].is_contiguous()
    optimiser = Adam(ours)
    other = torch.optim.Adam(theirs, lr=0.01)
    for _ in range(5):
        for one, another in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            another.grad = one.grad.clone()
        descend(optimiser, rate=0.01)
        other.step()
    for one, another in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, another)


def test_a_step_tells_that_it_changed_the_weights() -> None:
    weight = torch.ones(3, requires_grad=True)
    weight.grad = torch.ones(3)
    before = weight._version
    descend(Adam([weight]), rate=0.1)
    assert weight._version > before


def test_the_same_plan_and_vectors_give_the_same_weights() -> None:
    first = trained(begun(), PLAN.steps)
    assert (first["silent_for"] > PLAN.dead_after).any()
    assert same(first, trained(begun(), PLAN.steps))


def test_training_goes_on_from_a_kept_state_as_if_it_had_not_stopped() -> None:
    whole = trained(begun(), PLAN.steps)
    half = trained(begun(), PLAN.steps // 2)
    resumed = begun()
    # As files keep tensors: whatever the order in memory, written row by row.
    resumed.restore({name: value.contiguous() for name, value in half.items()})
    assert same(trained(resumed, PLAN.steps), whole)


def test_training_leaves_the_precision_of_products_as_it_was() -> None:
    before = torch.get_float32_matmul_precision(), torch.get_num_threads()
    trained(begun(), 1)
    assert (torch.get_float32_matmul_precision(), torch.get_num_threads()) == before
