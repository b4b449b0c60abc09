"""Attribution patching against closed forms, and against running the model again."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from mad.capture.hooks import capture
from mad.capture.model import fingerprint
from mad.components.dictionaries.topk import topk_dictionary
from mad.effects import (
    METHODS,
    Components,
    Experiment,
    Heads,
    Method,
    Nodes,
    Parts,
    Where,
    sites_of,
)
from mad.errors import ConfigError
from tests.attending import (
    ATTENTIONS,
    BRANCHES,
    every,
    experiment,
    sequences,
    trained,
)
from tests.unit.parameters.test_decomposition import model as doubling, taken_apart


class Cancelling(nn.Module):
    """A stream from which one branch takes away what is positive, and another nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.node, self.branch, self.other = nn.Identity(), nn.ReLU(), nn.Hardtanh()

    def forward(self, x: Tensor) -> Tensor:
        x = self.node(x)
        x = x - self.branch(x)
        answer: Tensor = x + 0.0 * self.other(x) + 10.0
        return answer


def test_drop_finds_an_effect_whose_direct_and_indirect_parts_cancel() -> None:
    x, other = torch.tensor([[2.0]]), torch.tensor([[-3.0]])
    where = Where(branches=("branch", "other"))
    found = experiment(Cancelling(), [Parts("node")], x, other=other, where=where)
    # At 2 slopes of 1 and -1 cancel; at -3 the branch is silent.
    assert every(found)[0].tolist() == [-3.0]
    assert found.estimates("gradient")[0].tolist() == [0.0]
    assert found.estimates("query_key")[0].tolist() == [0.0]
    # Without the branch the slope is 1, and the change -5; without the other nothing arrives.
    assert found.estimates("drop")[0].tolist() == [5.0]
    assert found.estimates("star")[0].tolist() == [5.0]


def test_drop_agrees_with_gradients_where_there_is_one_path() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    where = Where(branches=("0", "1", "2"))
    found = experiment(module, [Parts("1", None)], torch.randn(5, 3), where=where)
    plain, dropped = found.estimates("gradient")[0], found.estimates("drop")[0]
    # Of three passes one drops the node's own branch and one all that comes after it.
    torch.testing.assert_close(dropped, plain.abs())


@pytest.mark.parametrize("method", METHODS)
def test_estimates_are_exact_where_the_rest_of_the_model_is_linear(method: Method) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3))
    directions = torch.randn(9, 6)
    dictionary = topk_dictionary(
        site="0",
        pooling="auto",
        k=4,
        encoder=directions.T,
        bias=torch.zeros(9),
        decoder=directions,
        centre=torch.full((6,), 0.1),
        scale=torch.tensor(2.0),
    )
    x, other = torch.randn(8, 4), torch.randn(8, 4)
    nodes: list[Nodes] = [Parts("0"), Parts("0", 3), Parts("0", None), Components(dictionary)]
    found = experiment(module, nodes, x, other=other)
    # The answer is of the label that the model predicts unchanged.
    weight = module.get_parameter("1.weight")[module(x).argmax(dim=1)]
    moved = (module[0](other) - module[0](x)) * weight
    truth = every(found)
    torch.testing.assert_close(truth[2].float().reshape(8, 6), moved.detach())
    for one, effect in zip(found.estimates(method), truth, strict=True):
        wanted = effect if method in ("gradient", "query_key") else effect.abs()
        torch.testing.assert_close(one, wanted, atol=1e-5, rtol=1e-4)
    assert [len(one) for one in truth] == [8, 24, 48, int(found.changes[3].rows.numel())]


@pytest.mark.parametrize("method", METHODS)
def test_a_subcomponent_of_weights_is_silenced_by_taking_away_what_it_writes(
    method: Method,
) -> None:
    module = doubling()
    found = experiment(module, [Components(taken_apart(module))], torch.tensor([[1.0, 2.0]]))
    # The answer is 12 and 26, of which the second subcomponent writes 4 and the first nothing.
    assert every(found)[0].tolist() == [0.0, -4.0]
    assert [abs(one) for one in found.estimates(method)[0].tolist()] == [0.0, 4.0]


def test_effects_on_the_loss_are_in_bits() -> None:
    module = nn.Sequential(nn.Identity())
    x = torch.tensor([[0.0, math.log(3)]])
    found = experiment(module, [Parts("0")], x, where=Where(answer="loss"))
    # The label's chance falls from three quarters to a half.
    assert every(found)[0].item() == pytest.approx(math.log2(1.5))
    # The slope of -log2 p by the scores is (p - 1, 1 - p) / ln 2.
    assert found.estimates("gradient")[0].item() == pytest.approx(0.25 * math.log(3) / math.log(2))


def test_positions_and_channels_are_nodes_of_their_own() -> None:
    torch.manual_seed(5)
    module = nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
    x = torch.rand(4, 1, 3, 3)
    nodes = [Parts("0", None), Parts("0", None, by_position=True)]
    channels, places = every(experiment(module, nodes, x))
    before = module(x)
    label = before.argmax(dim=1)
    with torch.no_grad():
        maps = module[0](x)
        maps[:, 1] = 0.0
        moved = (module[1:](maps) - before)[torch.arange(4), label]
        one = module[0](x)
        one[:, 2, 1, 0] = 0.0
        moved_one = (module[1:](one) - before)[torch.arange(4), label]
    torch.testing.assert_close(channels.reshape(4, 3)[:, 1].float(), moved)
    torch.testing.assert_close(places.reshape(4, 4, 3)[:, 2, 2].float(), moved_one)


def test_all_estimates_rank_nodes_of_a_two_layer_model_as_ablation_does() -> None:
    model = trained(40)
    generator = torch.Generator().manual_seed(1)
    x, other = (sequences(3, generator=generator)[:, :-1] for _ in range(2))
    nodes = [Heads(attention, by_position=True) for attention in ATTENTIONS]
    where = Where(ATTENTIONS, BRANCHES)
    before = fingerprint(model.module)
    reference = capture(model, sites_of(nodes, where), {"x": other}).activations
    found = Experiment.of(model, nodes, {"x": x}, reference=reference, where=where)
    truth = torch.cat(every(found)).abs()
    # Nodes without effect, such as queries that nothing reads, would flatter every method.
    is_some = truth > 1e-5
    assert is_some.sum() > 400
    ranks = {
        method: stats.spearmanr(truth[is_some], torch.cat(found.estimates(method)).abs()[is_some])
        for method in METHODS
    }
    assert ranks["star"].statistic >= 0.9
    assert ranks["query_key"].statistic > ranks["gradient"].statistic
    # The model is as it was.
    assert fingerprint(model.module) == before
    assert not any(
        part._forward_hooks or part._forward_pre_hooks for part in model.module.modules()
    )
    assert all(weight.grad is None for weight in model.module.parameters())


def test_what_cannot_be_so_divided_is_refused() -> None:
    module = nn.Linear(4, 6)
    with pytest.raises(ConfigError, match="has 6 features, which are not 4 equal parts"):
        experiment(nn.Sequential(module), [Parts("0", 4)], torch.ones(2, 4))


def test_an_answer_without_slope_is_refused() -> None:
    class Label(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.site = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.site(x)
            return found.argmax(dim=1)

    with pytest.raises(ConfigError, match="cannot be differentiated by site 'site'"):
        experiment(Label(), [Parts("site")], torch.ones(2, 3))
