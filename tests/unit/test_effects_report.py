"""The report of how well estimated effects agree with measured ones."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from mad.components.dictionaries.topk import topk_dictionary
from mad.effects import METHODS, Method, Where
from mad.errors import ConfigError
from mad.report.dictionary import Source
from mad.report.effects import Curve, EffectsPlan, EffectsReport, Pairs, compare
from mad.report.effects.told import as_json, effects_sheet, methods, tables, verdict
from mad.report.sheet import as_page
from tests.attending import ATTENTIONS, BRANCHES, sequences, trained
from tests.markup import Markup
from tests.worlds import Rows, quiet


def pairs(truth: list[float], *estimates: list[float], inputs: list[int] | None = None) -> Pairs:
    """Return pairs of one input, or several, with estimates of each method in turn."""
    given: dict[Method, Tensor] = {
        method: torch.tensor(estimates[place % len(estimates)], dtype=torch.float64)
        for place, method in enumerate(METHODS)
    }
    rows = torch.tensor(inputs or [0] * len(truth), dtype=torch.int64)
    nodes = torch.arange(len(truth))
    return Pairs("some", rows, nodes, torch.tensor(truth, dtype=torch.float64), given)


def test_ranks_are_of_absolute_effects_and_leave_out_what_has_none() -> None:
    found = pairs([4.0, -3.0, 2.0, 0.0, 0.0], [-8.0, 6.0, 4.0, 0.0, 0.0], [2.0, 3.0, 4.0, 0.0, 0.0])
    assert found.has_any.tolist() == [True, True, True, False, False]
    assert found.rank_correlation("gradient") == pytest.approx(1.0)
    assert found.rank_correlation("query_key") == pytest.approx(-1.0)


def test_an_effect_that_is_only_estimated_counts_against_the_estimate() -> None:
    found = pairs([4.0, 3.0, 0.0], [1.0, 2.0, 9.0])
    assert found.has_any.all()
    assert found.rank_correlation("gradient") == pytest.approx(-1.0)


def test_nothing_to_rank_is_not_a_number() -> None:
    assert math.isnan(pairs([0.0, 0.0], [0.0, 0.0]).rank_correlation("gradient"))
    assert math.isnan(pairs([1.0, 2.0], [1.0, 1.0]).rank_correlation("gradient"))
    assert math.isnan(pairs([], []).found_at_once("gradient", top=3))


def test_the_curve_counts_the_top_of_each_input_in_the_order_of_its_estimates() -> None:
    found = pairs(
        [4.0, 3.0, 2.0, 1.0, 8.0, 9.0],
        # The first input's best two come first and third; the second has two nodes, in order.
        [9.0, 5.0, 6.0, 0.0, 1.0, 2.0],
        inputs=[0, 0, 0, 0, 1, 1],
    )
    curve = found.curve("gradient", top=2)
    assert curve.tolist() == [0.0, 0.5, 0.75, 1.0, 1.0]
    assert found.found_at_once("gradient", top=2) == 0.75
    spent = Curve("gradient", 3, curve)
    assert [spent.runs_for(share) for share in (0.5, 0.75, 0.8, 1.0)] == [4, 5, 6, 6]
    assert Curve("gradient", 3, np.array([0.0, 0.5])).runs_for(1.0) is None


def source(decoder: Tensor, *, k: int) -> Source:
    """Return a two-layer transformer with a dictionary of its stream, and sequences."""
    model = trained(20)
    width = decoder.shape[1]
    dictionary = topk_dictionary(
        site="blocks.0",
        pooling="last",
        k=k,
        encoder=decoder.T,
        bias=torch.zeros(len(decoder)),
        decoder=decoder,
        centre=torch.zeros(width),
        scale=torch.tensor(1.0),
    )
    x = sequences(60, generator=torch.Generator().manual_seed(3))[:, :-1]
    return Source(model, dictionary, Rows(x), torch.arange(40), torch.arange(40, 60))


@pytest.fixture(scope="module")
def compared() -> EffectsReport:
    plan = EffectsPlan(
        Where(ATTENTIONS, BRANCHES), ("blocks.1.mlp",), by_position=True, inputs=6, most=12, top=4
    )
    return compare(source(torch.eye(32), k=6), plan, progress=quiet)


def test_each_kind_of_node_is_compared(compared: EffectsReport) -> None:
    roles = [f"blocks.{layer}.attention {role}" for layer in (0, 1) for role in "qkv"]
    long = {"q": "query", "k": "key", "v": "value"}
    names = [name[:-1] + long[name[-1]] for name in roles]
    assert [one.name for one in compared.kinds] == ["blocks.0", *names, "blocks.1.mlp"]
    # Six components, or twelve of 48 heads and positions, of six inputs; all twelve positions.
    assert [one.pairs for one in compared.kinds] == [36, *[72] * 7]
    assert compared.whole.ranks["star"] >= 0.9
    assert compared.components == {"blocks.0"}
    # A run, and two for each of one and of four backward passes.
    assert [curve.first for curve in compared.curves] == [3, 3, 9, 9]
    assert all(curve.found[-1] == pytest.approx(1.0) for curve in compared.curves)


def test_the_same_plan_gives_the_same_report() -> None:
    plan = EffectsPlan(Where(ATTENTIONS), inputs=3, most=2, reference="mean")
    one, two = (compare(source(torch.eye(32), k=2), plan, progress=quiet) for _ in range(2))
    assert as_json(one) == as_json(two)
    assert methods(one) == ("gradient", "query_key")


def test_the_report_says_whether_effects_can_be_trusted(compared: EffectsReport) -> None:
    (of_view, *others) = compared.kinds

    def said(rank: float) -> tuple[str, bool | None]:
        figures = dict.fromkeys(METHODS, rank)
        return verdict(
            replace(compared, kinds=(replace(of_view, ranks=figures, found=figures), *others))
        )

    assert said(0.95)[0].startswith('activity = "effect" can be trusted on this model')
    assert said(0.8)[0].startswith('activity = "effect" is fair on this model')
    assert said(0.3)[0].startswith('activity = "effect" misleads on this model')
    assert [said(rank)[1] for rank in (0.95, 0.8, 0.3, math.nan)] == [True, None, False, None]
    assert "nothing can be said" in said(math.nan)[0]


def test_the_page_draws_what_is_missed_by_runs(compared: EffectsReport) -> None:
    page = Markup(as_page(effects_sheet(compared)))
    assert "script" not in page.tags
    assert page.tags.count("polyline") == 4
    words = " ".join(page.words)
    for name in ("AtP, query-key fix", "AtP, GradDrop", "AtP*", "blocks.0.attention key"):
        assert name in words
    assert [len(table.rows) for table in tables(compared)] == [9, 9, 4]


def test_a_model_none_of_whose_components_is_active_is_refused() -> None:
    silent = source(torch.zeros(3, 32), k=1)
    with pytest.raises(ConfigError, match="no component is active on any held-out input"):
        compare(silent, EffectsPlan(Where(), inputs=2), progress=quiet)
