"""The examination of dictionaries, against closed forms and direct calculation."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from mad.capture.model import MonitoredModel
from mad.components.dictionaries.kinds.switch import SwitchEncoder
from mad.components.dictionaries.topk import topk_dictionary
from mad.components.joined import Joined
from mad.components.unexplained import Unexplained
from mad.errors import ConfigError
from mad.report.dictionary import Asked
from mad.report.dictionary.length import code_bits
from mad.report.dictionary.table import as_json
from tests.unit.examined import COUNT, WIDTH, WORLD, World, dictionary, rotation


def test_a_perfect_dictionary_explains_everything_and_loses_nothing() -> None:
    (one,) = WORLD.report(dictionary()).dictionaries
    own = one.reconstruction
    assert own.unexplained_variance == pytest.approx(0, abs=1e-10)
    assert (own.cosine, own.length_ratio, own.relative_bias) == pytest.approx((1, 1, 1))
    assert set(one.use.active.quantiles) == {2}
    assert one.use.dead_share == 0
    assert one.splice is not None
    assert one.splice.clean_bits == pytest.approx(0, abs=1e-9)
    assert one.splice.recovered_from_zero == pytest.approx(1, abs=1e-5)
    assert one.splice.recovered_from_mean == pytest.approx(1, abs=1e-5)
    assert one.splice.reconstructed.agreement == 1


def test_figures_of_a_lossy_dictionary_are_those_of_direct_calculation() -> None:
    one = dictionary(k=1, gain=0.8)
    (found,) = WORLD.report(one).dictionaries
    x, hidden = WORLD.held_out, rotation(0)
    strength, chosen = (x @ hidden.T).max(dim=1)
    explained = 0.8 * strength.unsqueeze(1) * hidden[chosen]
    own = found.reconstruction
    missed = (x - explained).square().sum() / (x - x.mean(dim=0)).square().sum()
    assert own.unexplained_variance == pytest.approx(float(missed), rel=1e-5)
    assert own.explained_variance == pytest.approx(1 - float(missed), rel=1e-5)
    cosine = functional.cosine_similarity(x, explained).mean()
    assert own.cosine == pytest.approx(float(cosine), rel=1e-5)
    ratio = (explained.norm(dim=1) / x.norm(dim=1)).mean()
    assert own.length_ratio == pytest.approx(float(ratio), rel=1e-5)
    assert found.use.magnitudes.mean == pytest.approx(float(0.8 * strength.mean()), rel=1e-5)
    # Along the direction that it takes, the dictionary says 0.8 of what is there.
    assert own.relative_bias == pytest.approx(0.8, rel=1e-5)


def test_known_directions_are_found_in_the_dictionary_that_has_them() -> None:
    shuffled = rotation(0)[torch.randperm(WIDTH)]
    (found,) = WORLD.report(dictionary(), Asked(truth={"0": 3 * shuffled})).dictionaries
    assert found.truth is not None
    assert found.truth.nearest.mean == pytest.approx(1, abs=1e-6)
    assert found.truth.matched is not None
    assert found.truth.matched.above_95 == 1


def test_known_directions_of_another_width_or_view_are_refused() -> None:
    with pytest.raises(ConfigError, match="5 coordinates, and the dictionary explains 12"):
        WORLD.report(dictionary(), Asked(truth={"0": torch.ones(3, 5)}))
    with pytest.raises(ConfigError, match="'elsewhere' are of no dictionary"):
        WORLD.report(dictionary(), Asked(truth={"elsewhere": torch.ones(3, WIDTH)}))


def test_a_dictionary_is_the_same_as_itself_and_has_its_own_directions() -> None:
    found = WORLD.report(dictionary(), Asked(other=dictionary()))
    ((one,), (own,)) = found.comparisons, found.dictionaries
    assert (own.view, one.first, one.second) == ("0", "0", "0 (other)")
    assert one.similarity.rsa == pytest.approx(1)
    assert one.similarity.cka_debiased == pytest.approx(1)
    assert one.recovery is not None
    assert one.recovery.nearest.mean == pytest.approx(1, abs=1e-6)


def test_directions_at_different_sites_are_not_compared() -> None:
    found = WORLD.report(Joined((dictionary(), dictionary(site="1"))))
    (one,) = found.comparisons
    assert (one.first, one.second) == ("0", "1")
    assert one.recovery is None


def test_what_is_no_dictionary_is_left_out_by_name() -> None:
    found = WORLD.report(Joined((dictionary(), Unexplained("1"))))
    assert found.skipped == ("1",)
    assert [one.view for one in found.dictionaries] == ["0"]
    with pytest.raises(ConfigError, match="no dictionary among the views 1"):
        WORLD.report(Unexplained("1"))


def test_the_bound_on_latents_is_that_of_the_paper() -> None:
    # GPT-2 in Ayonrinde, Pearce and Sharkey 2024: 65 of 25,000 latents at 7 bits each.
    assert code_bits(65.0, width=25_000, precision_bits=7.0) == pytest.approx(1404.6, abs=0.1)


def test_a_grid_twice_as_fine_costs_a_bit_for_each_number_described() -> None:
    coarse, fine = (
        WORLD.report(dictionary(k=1), Asked(relative_step=step)).dictionaries[0].length
        for step in (0.02, 0.01)
    )
    assert fine.code_bits - coarse.code_bits == pytest.approx(1)
    assert fine.bare_bits is not None
    assert coarse.bare_bits is not None
    assert fine.bare_bits - coarse.bare_bits == pytest.approx(WIDTH, abs=0.05)
    assert fine.description_bits is not None
    assert coarse.description_bits is not None
    assert fine.description_bits - coarse.description_bits == pytest.approx(WIDTH + 1, abs=0.05)


def test_the_true_dictionary_describes_its_activations_in_fewer_bits_than_none() -> None:
    noise = 0.01 * torch.randn(COUNT, WIDTH, generator=torch.Generator().manual_seed(3))
    (found,) = World.of(WORLD.x + noise).report(dictionary()).dictionaries
    assert found.length.description_bits is not None
    assert found.length.bare_bits is not None
    assert found.length.description_bits < found.length.bare_bits - 10


def test_a_view_too_wide_for_a_covariance_is_measured_but_not_described() -> None:
    wide = 2_100
    x = torch.randn(60, wide, generator=torch.Generator().manual_seed(4))
    one = topk_dictionary(
        site="0",
        pooling="auto",
        k=2,
        encoder=torch.eye(wide)[:, :8],
        bias=torch.zeros(8),
        decoder=torch.eye(wide)[:8],
        centre=torch.zeros(wide),
        scale=torch.tensor(1.0),
    )
    model = MonitoredModel.of(nn.Sequential(nn.Identity()), name="wide", inputs=["x"])
    (found,) = World(x, model).report(one).dictionaries
    assert found.length.description_bits is None
    assert found.length.code_bits == pytest.approx(2 * (math.log2(100) + 3), rel=0.1)


def test_activations_that_are_no_numbers_are_refused_by_site() -> None:
    x = WORLD.x.clone()
    x[9, 3] = torch.nan
    with pytest.raises(ConfigError, match="site '0' gives NaN"):
        World(x, WORLD.model).report(dictionary())


def test_firing_rates_are_counted_by_the_quarter_of_a_decade() -> None:
    (found,) = WORLD.report(dictionary()).dictionaries
    uses = (WORLD.held_out @ rotation(0).T > 0.5).double().mean(dim=0).log10().numpy()
    expected = [0] * 16
    for rate in uses:
        expected[int((rate + 4) / 0.25)] += 1
    assert list(found.use.rates.counts) == expected
    assert np.isclose(found.use.rates.edges[0], -4)
    assert np.isclose(found.use.rates.edges[-1], 0)


def test_the_same_data_give_the_same_report() -> None:
    asked = Asked(other=dictionary(k=1))
    first, second = (WORLD.report(dictionary(), asked) for _ in range(2))
    assert as_json(first) == as_json(second)


def test_a_router_that_looks_at_its_experts_features_is_told_from_one_that_does_not() -> None:
    hidden = rotation(0)
    looking = torch.stack([half.sum(dim=0) for half in hidden.split(WIDTH // 2)], dim=1)
    elsewhere = torch.zeros_like(looking)
    routers = {}
    for name, router in (("looking", looking), ("elsewhere", elsewhere)):
        encoder = SwitchEncoder(
            weight=hidden.T.contiguous(),
            bias=torch.zeros(WIDTH),
            router=router + 1e-3 * hidden[:2].T,
            router_bias=torch.zeros(2),
            k=2,
            experts=2,
            active_experts=1,
            always_on=False,
        )
        (found,) = WORLD.report(replace(dictionary(), encoder=encoder)).dictionaries
        assert found.kind == "switch"
        assert found.router is not None
        routers[name] = found.router
    own, other = routers["looking"], routers["elsewhere"]
    assert own.agreement == 1
    assert own.own_cosine == pytest.approx(1, abs=1e-3)
    assert other.agreement < 0.9
    assert other.own_cosine < 0.5
    assert (own.repeated, other.repeated) == (0, 0)
