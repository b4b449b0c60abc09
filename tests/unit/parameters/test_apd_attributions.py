"""What components account for of an output, to first order: by hand, and as the paper finds it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import pytest
import torch
from torch import Tensor, nn

from mad.components.parameters.apd.attributions import attributions, by_components, by_outputs
from mad.components.parameters.apd.components import Components, Factors
from mad.components.parameters.apd.passes import Seen, Visited
from mad.components.parameters.layers import matrix_layer, matrix_of
from mad.errors import ConfigError
from tests.unit.parameters.models import Mixed

Way: TypeAlias = Callable[[Visited, Seen, Tensor, Components], Tensor]


def drawn(model: nn.Module, *, components: int, rank: int) -> Components:
    """Draw components of every layer."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, module in model.named_modules():
        if not list(module.children()) and list(module.parameters()):
            layer = matrix_layer(model, name)
            a = torch.randn(components, layer.source, rank, generator=generator).double()
            b = torch.randn(components, rank, layer.target, generator=generator).double()
            found[name] = Factors(layer, a, b)
    return found


def by_backward_passes(model: nn.Module, batch: Tensor, components: Components) -> Tensor:
    """Return attributions as the paper defines them: one backward pass an output."""
    given: dict[str, Tensor] = {}
    returned: dict[str, Tensor] = {}

    def keep(name: str) -> None:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
            given[name], returned[name] = inputs[0].detach(), out
            return out

        removed.append(model.get_submodule(name).register_forward_hook(hook))

    removed: list[torch.utils.hooks.RemovableHandle] = []
    for name in components:
        keep(name)
    output = model(batch)
    for one in removed:
        one.remove()
    width = next(iter(components.values())).width
    found = torch.zeros(len(batch), width, dtype=batch.dtype)
    for place in range(output.shape[1]):
        slopes = torch.autograd.grad(
            output[:, place].sum(), list(returned.values()), retain_graph=True
        )
        inner = torch.zeros_like(found)
        for name, slope in zip(returned, slopes, strict=True):
            each = components[name].each(given[name])
            inner += (each * slope).flatten(2).sum(dim=2).T
        found += inner.square()
    return found


@pytest.mark.parametrize("way", [attributions, by_components, by_outputs])
def test_attributions_are_those_of_a_backward_pass_an_output(way: Way) -> None:
    model = Mixed().double()
    batch = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(1)).double()
    components = drawn(model, components=7, rank=2)
    visited = Visited(model, [one.layer for one in components.values()])
    found = way(visited, visited.look(batch), batch, components)
    torch.testing.assert_close(found, by_backward_passes(model, batch, components))
    assert all(one.grad is None for one in model.parameters())


class Fused(nn.Module):
    """Attends by an operation that has no tangents, and answers ``width`` numbers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.out = nn.Linear(4, 4), nn.Linear(4, width)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over tokens."""
        tokens = self.query(x).unsqueeze(1)
        mixed = nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)
        answer: Tensor = self.out(mixed.squeeze(1).mean(dim=1))
        return answer


def test_a_model_without_tangents_is_followed_backward_if_its_outputs_are_few() -> None:
    batch = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1)).double()
    model = Fused(3).double()
    components = drawn(model, components=2, rank=2)
    visited = Visited(model, [one.layer for one in components.values()])
    found = attributions(visited, visited.look(batch), batch, components)
    torch.testing.assert_close(found, by_backward_passes(model, batch, components))
    wide = Fused(1_001).double()
    components = drawn(wide, components=2, rank=2)
    visited = Visited(wide, [one.layer for one in components.values()])
    with pytest.raises(ConfigError, match=r"no derivatives forward .* answers 1001 numbers an inp"):
        attributions(visited, visited.look(batch), batch, components)


def test_threads_that_ask_at_once_get_their_own_answers() -> None:
    model = Mixed().double()
    components = drawn(model, components=7, rank=2)
    visited = Visited(model, [one.layer for one in components.values()])
    generator = torch.Generator().manual_seed(1)
    asked = [torch.randn(2, 1, 4, 4, generator=generator).double() for _ in range(40)]

    def ask(batch: Tensor) -> Tensor:
        return attributions(visited, visited.look(batch), batch, components)

    alone = [ask(batch) for batch in asked]
    with ThreadPoolExecutor(max_workers=4) as threads:
        together = list(threads.map(ask, asked))
    assert all(torch.equal(one, other) for one, other in zip(together, alone, strict=True))


def test_attributions_in_the_run_of_all_components_are_those_of_a_model_with_their_sum() -> None:
    model = Mixed().double()
    batch = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(1)).double()
    components = drawn(model, components=7, rank=2)
    visited = Visited(model, [one.layer for one in components.values()])
    found = attributions(visited, visited.look_at_all(batch, components), batch, components)

    with_sum = Mixed().double()
    with_sum.load_state_dict(model.state_dict())
    for name, one in components.items():
        matrix_of(with_sum, matrix_layer(with_sum, name)).copy_(one.matrices.sum(dim=0))
    torch.testing.assert_close(found, by_backward_passes(with_sum, batch, components))


@pytest.mark.parametrize("way", [by_components, by_outputs])
def test_attributions_of_a_linear_model_are_the_squares_of_what_components_write(way: Way) -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    layer = matrix_layer(model, "0")
    a, b = (
        torch.tensor([[[1.0], [0.0]], [[0.0], [2.0]]]),
        torch.tensor([[[3.0, 4.0]], [[0.0, 1.0]]]),
    )
    components = {"0": Factors(layer, a, b)}
    visited = Visited(model, [layer])
    batch = torch.tensor([[1.0, 0.0], [2.0, 1.0]])
    found = way(visited, visited.look(batch), batch, components)
    torch.testing.assert_close(found, torch.tensor([[25.0, 0.0], [100.0, 4.0]]))


def test_a_model_that_goes_on_in_place_is_seen_as_it_was() -> None:
    """The first layer answers -3 and 2; its component's share is what it wrote, before the ReLU."""
    model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(inplace=True))
    model.get_parameter("0.weight").data = torch.tensor([[-3.0], [2.0]])
    layer = matrix_layer(model, "0")
    whole = Factors(layer, torch.ones(1, 1, 1), torch.tensor([[[-3.0, 2.0]]]))
    visited = Visited(model, [layer])
    batch = torch.ones(1, 1)
    seen = visited.look(batch)
    assert seen.returned["0"].tolist() == [[-3.0, 2.0]]
    for way in (by_components, by_outputs):
        assert way(visited, seen, batch, {"0": whole}).tolist() == [[4.0]]
