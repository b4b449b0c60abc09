"""Gated attention blocks: heads in superposition are told apart, and serve as a decomposition."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mad.capture.model import MonitoredModel
from mad.components.dictionaries.attention.block import AttentionBlock
from mad.components.dictionaries.attention.heads import Heads, visible_pairs
from mad.components.dictionaries.attention.training import (
    AttentionFigures,
    AttentionPlan,
    SequencePairs,
    train_attention_block,
)
from mad.components.dictionaries.files import load_dictionaries, save_dictionaries
from mad.components.dictionaries.frame import Frame
from mad.components.dictionaries.look import Look
from mad.components.pooling import Pooling
from mad.errors import ConfigError
from mad.fit import fit, split
from mad.fit.attention import train_attention
from mad.monitor import Monitor
from tests.worlds import CREATED, PLAN, WIDTH, Rows, ordinary, quiet, strange, tiny_module

A, FIRST_B, FIRST_C, BOS = 0, 1, 4, 7
POSITIONS = 11
LOOK = Look(("attention<",), ("attention",), "last")
SEEN = torch.zeros(1, dtype=torch.int64)


def superposed() -> Tensor:
    """Return what two heads write; the third trigram needs both of them at once.

    Alone each is for the C of its own B, together they cancel on both and agree on the third C.
    """
    written = torch.zeros(2, 8)
    written[:, FIRST_C:BOS] = torch.tensor([[2.0, -2.0, 1.5], [-2.0, 2.0, 1.5]])
    return written


class SkipTrigrams(nn.Module):
    """One layer of two heads for "A ... B -> C": where A came before, each B needs its own C.

    The first head attends from B1 and B3, the second from B2 and B3, to A, and else to the start.
    """

    def __init__(self) -> None:
        super().__init__()
        self.attends = torch.zeros(8, 2, dtype=torch.bool)
        self.attends[[FIRST_B, FIRST_B + 1], [0, 1]] = True
        self.attends[FIRST_B + 2] = True

    def forward(self, tokens: Tensor) -> Tensor:
        liked = torch.where(tokens == BOS, 10.0, 0.0)[:, None, :, None]
        from_b = self.attends[tokens].unsqueeze(2)
        is_a = (tokens == A)[:, None, :, None]
        scores = torch.where(from_b & is_a, 20.0, liked)
        later = ~torch.ones(POSITIONS, POSITIONS, dtype=torch.bool).tril()[None, :, :, None]
        pattern = scores.masked_fill(later, -torch.inf).softmax(dim=2)
        written: Tensor = (pattern * is_a).sum(dim=2) @ superposed()
        return written


def toy(count: int, *, seed: int) -> tuple[Tensor, SequencePairs]:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, BOS, (count, POSITIONS), generator=generator)
    tokens[:, 0] = BOS
    return tokens, SequencePairs(torch.eye(8)[tokens], SkipTrigrams()(tokens))


@pytest.fixture(scope="module")
def block() -> AttentionBlock:
    plan = AttentionPlan(heads=16, narrow=2, steps=500, batch_size=64)
    return train_attention_block(LOOK, toy(4_000, seed=0)[1], plan, step_done=lambda *_: None)


def last(pairs: SequencePairs, length: int) -> dict[str, Tensor]:
    return {"attention<": pairs.source[:, :length], "attention": pairs.target[:, :length]}


def test_two_heads_in_superposition_become_three_that_write_what_each_trigram_needs(
    block: AttentionBlock,
) -> None:
    one, two = superposed()
    needed = nn.functional.normalize(torch.stack([one, two, one + two]), dim=1)
    tokens, pairs = toy(1_000, seed=1)
    owners = set()
    for trigram, direction in enumerate(needed):
        follows = (tokens == A).any(dim=1) & (tokens[:, -1] == FIRST_B + trigram)
        chosen = pairs.take(follows.nonzero().squeeze(1))
        activity = block.activity(last(chosen, POSITIONS))["attention"]
        assert activity.counts.tolist() == [1] * len(chosen)
        owner = int(activity.components[0])
        assert (activity.components == owner).all()
        assert torch.dot(block.heads.output[owner], direction).abs() > 0.99
        owners.add(owner)
    assert len(owners) == 3


def test_gates_are_exactly_closed_where_no_trigram_ends(block: AttentionBlock) -> None:
    tokens, pairs = toy(1_000, seed=2)
    ends = (tokens == A).any(dim=1) & (tokens[:, -1] >= FIRST_B) & (tokens[:, -1] < FIRST_C)
    activity = block.activity(last(pairs, POSITIONS))["attention"]
    assert torch.equal(activity.counts > 0, ends)
    share = activity.residual.square().sum() / activity.activation.square().sum()
    assert share < 0.01


def test_sequences_of_other_lengths_are_read(block: AttentionBlock) -> None:
    tokens, pairs = toy(300, seed=3)
    activity = block.activity(last(pairs, 6))["attention"]
    early = tokens[:, :6]
    ends = (early == A).any(dim=1) & (early[:, -1] >= FIRST_B) & (early[:, -1] < FIRST_C)
    assert torch.equal(activity.counts > 0, ends)


def test_later_positions_are_not_seen_by_a_causal_block(block: AttentionBlock) -> None:
    pairs = toy(20, seed=4)[1]
    mean = replace(block, look=replace(LOOK, pooling="mean"))
    source = pairs.source[:, :6]
    visible = visible_pairs(6, is_causal=True)
    whole = block.heads.carried(source, source, visible)
    for position in range(6):
        until = source[:, : position + 1]
        alone = block.heads.carried(
            until[:, -1:], until, visible[position : position + 1, : position + 1]
        )
        torch.testing.assert_close(alone[:, 0], whole[:, position])
    assert mean.activity(last(pairs, 6))["attention"].counts.sum() > 0


def test_what_heads_carry_is_the_sum_over_pairs_of_gate_attention_and_value() -> None:
    generator = torch.Generator().manual_seed(0)
    heads = random_heads(2, 3, 4, generator)
    queries, keys = (torch.randn(1, n, 3, generator=generator) for n in (2, 5))
    visible = torch.ones(2, 5, dtype=torch.bool)
    visible[0, 3:] = False
    carried = heads.carried(queries, keys, visible)
    for head in range(2):
        for query in range(2):
            seen = keys[0][visible[query]]
            asked = queries[0, query] @ heads.query[head] + heads.query_bias[head]
            given = seen @ heads.key[head] + heads.key_bias[head]
            pattern = (given @ asked / 4**0.5).softmax(dim=0)
            gate_asked = queries[0, query] @ heads.gate_query[head] + heads.gate_query_bias[head]
            gate_given = seen @ heads.gate_key[head] + heads.gate_key_bias[head]
            values = seen @ heads.value[head] + heads.value_bias[head]
            expected = ((gate_asked * gate_given).clamp(0, 1) * pattern * values).sum()
            expected = expected if expected.abs() > 0.01 else torch.tensor(0.0)
            torch.testing.assert_close(carried[0, query, head], expected)


def random_heads(count: int, coordinates: int, narrow: int, generator: torch.Generator) -> Heads:
    shapes = {
        "query": (count, coordinates, narrow),
        "query_bias": (count, narrow),
        "key": (count, coordinates, narrow),
        "key_bias": (count, narrow),
        **dict.fromkeys(("gate_query", "gate_key", "value", "output"), (count, coordinates)),
        **dict.fromkeys(("gate_query_bias", "gate_key_bias", "value_bias", "floor"), (count,)),
    }
    assert set(shapes) == {field.name for field in fields(Heads)}
    drawn = {name: torch.randn(s, generator=generator) for name, s in shapes.items()}
    return Heads(**{**drawn, "floor": torch.full((count,), 0.01)})


def random_block(pooling: Pooling = "last") -> AttentionBlock:
    generator = torch.Generator().manual_seed(1)
    heads = random_heads(6, 3, 2, generator)
    source, target = (
        Frame(torch.randn(3, generator=generator), torch.tensor(s)) for s in (2.0, 3.0)
    )
    return AttentionBlock(replace(LOOK, pooling=pooling), heads, source, target, is_causal=True)


def test_the_same_plan_gives_the_same_block() -> None:
    pairs = toy(200, seed=5)[1]
    plan = AttentionPlan(heads=4, steps=5)
    first, second = (
        train_attention_block(LOOK, pairs, plan, step_done=lambda *_: None) for _ in range(2)
    )
    assert first.fingerprint == second.fingerprint


def test_each_step_says_what_is_left_over() -> None:
    found: dict[int, AttentionFigures] = {}
    plan = AttentionPlan(heads=8, steps=60, sparsity=0.0)
    train_attention_block(LOOK, toy(500, seed=6)[1], plan, step_done=found.__setitem__)
    assert sorted(found) == list(range(1, 61))
    assert found[60].unexplained < 0.5 * found[1].unexplained
    assert found[60].active > 0


def test_a_block_is_read_back_bit_for_bit_beside_another(tmp_path: Path) -> None:
    one, two = (
        random_block(),
        replace(random_block("mean"), look=replace(LOOK, pooling="mean", suffix="mean")),
    )
    save_dictionaries(tmp_path, [one, two], seen=SEEN)
    again = load_dictionaries(tmp_path)
    assert again.views == {"attention": "attention", "attention:mean": "attention"}
    assert [part.fingerprint for part in again.parts] == [one.fingerprint, two.fingerprint]
    activations = {site: torch.randn(5, 7, 3) for site in ("attention", "attention<")}
    for view, activity in again.activity(activations).items():
        expected = (one if view == "attention" else two).activity(activations)[view]
        assert torch.equal(activity.magnitudes, expected.magnitudes)
        assert torch.equal(activity.residual, expected.residual)


class Attentive(nn.Module):
    """Attends over a sequence made of its input, and answers at the last position."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(WIDTH, 4 * 12)
        self.attention = nn.MultiheadAttention(12, 2, batch_first=True)
        self.answer = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        sequence = self.embed(x).reshape(len(x), 4, 12)
        attended, _ = self.attention(sequence, sequence, sequence, need_weights=False)
        answer: Tensor = self.answer(sequence + attended)
        return answer


def test_a_block_is_trained_from_the_model_and_serves_a_baseline() -> None:
    torch.manual_seed(0)
    model = MonitoredModel.of(Attentive(), name="m", inputs=["x"])
    trusted = Rows(ordinary(600, seed=1))
    plan = AttentionPlan(heads=12, steps=40, batch_size=64, is_causal=False)
    rows = split(600, PLAN).fitting
    made = train_attention(model, LOOK, trusted, plan, rows=rows, progress=quiet)
    assert all(weight.grad is None for weight in model.module.parameters())
    baseline = fit(model, made, trusted, PLAN, created=CREATED, progress=quiet)
    monitor = Monitor.bind(model, made, baseline)
    usual = monitor.judge({"x": ordinary(40, seed=2)}).verdicts
    odd = monitor.judge({"x": strange(40, seed=3)}).verdicts
    assert max(one.surprise_bits for one in usual) < min(one.surprise_bits for one in odd)
    one = {"x": strange(1, seed=4)}
    _, explanation = monitor.explain(one, max_charges=50)
    found = monitor.counterfactuals(one, explanation)
    assert any(change.output_change > 0 for change in found)


def test_sites_that_are_no_sequences_are_refused_before_training() -> None:
    model = MonitoredModel.of(tiny_module(), name="tiny", inputs=["x"])
    look = Look(("1<",), ("1",), "last")
    with pytest.raises(ConfigError, match=r"site '1' gives \(.*, 16\); an attention block reads"):
        train_attention(
            model,
            look,
            Rows(ordinary(50, seed=1)),
            AttentionPlan(),
            rows=torch.arange(50),
            progress=quiet,
        )


def test_a_pooling_that_heads_do_not_add_up_to_is_refused() -> None:
    with pytest.raises(ConfigError, match="not their 'max'; set pooling to 'last' or 'mean'"):
        random_block("max")


def test_what_is_no_sequence_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\(2, 3\), and the attention block .* of 3 coord"):
        random_block().activity({"attention": torch.ones(2, 3), "attention<": torch.ones(2, 4, 3)})
