"""What a change of a query or a key does through the softmax, against closed forms and truth."""

import math
from dataclasses import replace

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from mad.components.dictionaries.topk import topk_dictionary
from mad.effects import (
    Components,
    Heads,
    LinearAttention,
    MultiheadAttention,
    Nodes,
    Parts,
    Where,
)
from mad.errors import ConfigError
from tests.attending import (
    Attention,
    every,
    experiment,
    linears,
    monitored,
)


class Reader(nn.Module):
    """Attention whose mixture at the last position, read by a linear layer, is the answer."""

    def __init__(self, attention: nn.Module, width: int) -> None:
        super().__init__()
        self.attention = attention
        self.read = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        args = (x, x, x) if isinstance(self.attention, nn.MultiheadAttention) else (x,)
        found = self.attention(*args)
        scores: Tensor = self.read(found[0] if isinstance(found, tuple) else found)
        return scores


def saturated() -> tuple[nn.Module, LinearAttention]:
    """Return one head of width one whose queries, keys and values are the input; ten is enough."""
    attention = Attention(1, 1, causal=False)
    with torch.no_grad():
        for part in attention.children():
            assert isinstance(part, nn.Linear)
            part.weight.fill_(1.0)
            part.bias.zero_()
    module = nn.Sequential()
    module.add_module("attention", attention)
    described = linears("attention", heads=1, is_causal=False)
    return module, described


def test_the_query_key_fix_finds_what_a_saturated_softmax_hides_from_gradients() -> None:
    module, attention = saturated()
    # The last query is 10 and keys are -10 and 10, so logits are -100 and 100: all attention goes
    # to the second value, 10. With keys, queries or values of the other input, 10 and -10:
    x, other = torch.tensor([[[-10.0], [10.0]]]), torch.tensor([[[10.0], [-10.0]]])
    found = experiment(module, [Heads(attention)], x, other=other)
    # logits of the query are 100 and -100; of the keys also; values change places.
    assert [effect.tolist() for effect in every(found)] == [[-20.0], [-20.0], [-20.0]]
    assert [one.tolist() for one in found.estimates("gradient")] == [[0.0], [0.0], [-20.0]]
    fixed = [one.tolist() for one in found.estimates("query_key")]
    assert fixed == [[-20.0], [-20.0], [-20.0]]
    each = experiment(module, [Heads(attention, by_position=True)], x, other=other)
    # One key alone makes the logits equal, and the mixture the mean of -10 and 10.
    truth = [[0.0, -20.0], [-10.0, -10.0], [0.0, -20.0]]
    assert [effect.tolist() for effect in every(each)] == truth
    assert [one.tolist() for one in each.estimates("query_key")] == truth
    assert [one.tolist() for one in each.estimates("gradient")] == [[0, 0], [0, 0], [0, -20]]


def test_the_fix_serves_components_that_write_a_query() -> None:
    module, attention = saturated()
    one = torch.ones(1, 1)
    query = topk_dictionary(
        site="attention.q",
        pooling="last",
        k=1,
        encoder=one,
        bias=torch.zeros(1),
        decoder=one,
        centre=torch.zeros(1),
        scale=torch.tensor(1.0),
    )
    x = torch.tensor([[[-10.0], [10.0]]])
    nodes = [Components(query)]
    found = experiment(module, nodes, x, where=Where(attentions=(attention,)))
    # Without its component the query is zero, and attends to both values alike.
    assert every(found)[0].tolist() == [-10.0]
    assert found.estimates("gradient")[0].tolist() == [0.0]
    assert found.estimates("query_key")[0].tolist() == [-10.0]


@pytest.mark.parametrize("by_position", [False, True])
@pytest.mark.parametrize("kind", ["linears", "module"])
def test_the_fix_is_exact_where_the_mixture_is_read_linearly(kind: str, by_position: bool) -> None:
    torch.manual_seed(1)
    x, other = 3 * torch.randn(4, 5, 8), 3 * torch.randn(4, 5, 8)
    module: nn.Module
    attention: LinearAttention | MultiheadAttention
    if kind == "linears":
        module = Reader(Attention(8, 2), 8)
        attention = linears("attention", heads=2)
    else:
        module = Reader(nn.MultiheadAttention(8, 2, batch_first=True), 8)
        attention = MultiheadAttention.of(monitored(module), "attention", is_causal=False)
    found = experiment(module, [Heads(attention, by_position=by_position)], x, other=other)
    for one, effect in zip(found.estimates("query_key"), every(found), strict=True):
        assert len(one) == 4 * 2 * (5 if by_position else 1)
        torch.testing.assert_close(one, effect, atol=1e-4, rtol=1e-3)
    query, _, value = found.estimates("gradient")
    assert not torch.allclose(query, every(found)[0], atol=0.1)
    torch.testing.assert_close(value, every(found)[2], atol=1e-4, rtol=1e-3)


class Grouped(nn.Module):
    """Four heads of queries side by side with two of keys and values, all from named layers."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(8, 8), nn.Linear(8, 4), nn.Linear(8, 4)
        self.o = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        q = self.q(x).unflatten(2, (4, 2)).transpose(1, 2)
        k, v = (
            part(x).unflatten(2, (2, 2)).transpose(1, 2).repeat_interleave(2, dim=1)
            for part in (self.k, self.v)
        )
        mixed = (q @ k.transpose(2, 3) * 0.3).softmax(dim=3) @ v
        scores: Tensor = self.o(mixed.transpose(1, 2).flatten(2))
        return scores


@pytest.mark.parametrize("by_position", [False, True])
def test_heads_may_share_keys_and_values(by_position: bool) -> None:
    torch.manual_seed(2)
    attention = LinearAttention("q", "k", "v", "o", heads=4, is_causal=False, scale=0.3)
    x = 3 * torch.randn(3, 5, 8)
    found = experiment(Grouped(), [Heads(attention, by_position=by_position)], x)
    per_input = 5 if by_position else 1
    assert [len(one.rows) for one in found.changes] == [3 * n * per_input for n in (4, 2, 2)]
    for one, effect in zip(found.estimates("query_key"), every(found), strict=True):
        torch.testing.assert_close(one, effect, atol=1e-4, rtol=1e-3)


class Packed(nn.Module):
    """Queries, keys and values from one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.o = nn.Linear(6, 18), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(2, (2, 3)).transpose(1, 2) for part in self.qkv(x).chunk(3, 2))
        mixed = (q @ k.transpose(2, 3) / math.sqrt(3)).softmax(dim=3) @ v
        scores: Tensor = self.o(mixed.transpose(1, 2).flatten(2))
        return scores


def test_one_layer_may_give_queries_keys_and_values() -> None:
    torch.manual_seed(3)
    attention = LinearAttention("qkv", "qkv", "qkv", "o", heads=2, is_causal=False)
    x, other = 3 * torch.randn(3, 4, 6), 3 * torch.randn(3, 4, 6)
    where = Where(attentions=(attention,))
    nodes: list[Nodes] = [Heads(attention), Parts("qkv", None)]
    found = experiment(Packed(), nodes, x, other=other, where=where)
    for one, effect in zip(found.estimates("query_key"), every(found), strict=True):
        torch.testing.assert_close(one, effect, atol=1e-4, rtol=1e-3)


def test_a_query_of_torchs_own_attention_is_silenced_as_by_its_weights() -> None:
    torch.manual_seed(4)
    own = nn.MultiheadAttention(8, 4, batch_first=True)
    module = Reader(own, 8)
    attention = MultiheadAttention.of(monitored(module), "attention", is_causal=False)
    x = 3 * torch.randn(6, 5, 8)
    (effects,) = every(experiment(module, [Heads(attention, roles=("query",))], x))
    before = module(x)[:, -1]
    label = before.argmax(dim=1)
    with torch.no_grad():
        # The second head's queries are the third and the fourth row.
        own.in_proj_weight[2:4] = 0.0
        own.in_proj_bias[2:4] = 0.0
    moved = (module(x)[:, -1] - before)[torch.arange(6), label]
    torch.testing.assert_close(effects.reshape(6, 4)[:, 1].float(), moved.detach())


class Encoder(nn.Module):
    """Two of torch's own layers, whose quick path is taken where gradients are not asked for."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.layers(x)[:, -1])
        return scores


def test_torchs_own_encoder_is_ranked_as_running_it_again_does() -> None:
    torch.manual_seed(5)
    module = Encoder()
    model = monitored(module.requires_grad_(False))
    attentions = tuple(
        MultiheadAttention.of(model, f"layers.layers.{layer}.self_attn", is_causal=False)
        for layer in (0, 1)
    )
    x, other = torch.randn(2, 4, 6, 16)
    nodes = [Heads(attention, by_position=True) for attention in attentions]
    found = experiment(module, nodes, x, other=other)
    for one, effect in zip(found.estimates("query_key"), every(found), strict=True):
        assert stats.spearmanr(one.abs(), effect.abs()).statistic >= 0.9


def test_an_attention_that_is_not_as_described_is_refused() -> None:
    module = Reader(Attention(8, 2), 8)
    right = linears("attention", heads=2)
    x = torch.randn(2, 5, 8)
    for wrong in (
        replace(right, heads=4),
        replace(right, is_causal=False),
        replace(right, scale=1.0),
        replace(right, query=right.key, key=right.query),
    ):
        with pytest.raises(ConfigError, match=r"does not compute softmax.*Check heads, causal"):
            experiment(module, [Heads(wrong)], x)
    with pytest.raises(ConfigError, match="are not those of 3 heads; set heads"):
        experiment(module, [Heads(replace(right, heads=3))], x)
    flat = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 6))
    of_rows = LinearAttention("0", "0", "0", "1", heads=1, is_causal=False)
    with pytest.raises(ConfigError, match=r"gives \(2, 6\), which are no query vectors"):
        experiment(flat, [Heads(of_rows)], torch.ones(2, 4))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Linear(8, 8), "is no nn.MultiheadAttention"),
        (nn.MultiheadAttention(8, 2), "is made with batch_first = False"),
        (nn.MultiheadAttention(8, 2, kdim=4, batch_first=True), "is made with kdim or vdim"),
        (nn.MultiheadAttention(8, 2, add_zero_attn=True, batch_first=True), "add_zero_attn"),
    ],
)
def test_a_module_that_is_no_usual_attention_is_refused(module: nn.Module, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MultiheadAttention.of(monitored(Reader(module, 8)), "attention", is_causal=False)
