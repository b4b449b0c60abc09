"""The fit flow: splits, refusals, and the same fit from the same data."""

from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor

from mad.capture.model import MonitoredModel
from mad.codes.kinds import KINDS
from mad.codes.neighbours import NeighbourCode
from mad.codes.residual import GaussianCode
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.joined import Joined
from mad.components.unexplained import Unexplained
from mad.effects import by_effect, differentiated
from mad.errors import ConfigError
from mad.fit import FitPlan, check_unseen, fit, split, train_dictionaries
from mad.fit.plan import SetCodeName
from mad.monitor import Monitor
from mad.types import MEASURES, Measure
from tests.dictionaries import looking
from tests.worlds import (
    CREATED,
    PLAN,
    Rows,
    World,
    ordinary,
    quiet,
    strange,
    tiny_module,
    tiny_world,
)


@pytest.fixture(scope="module")
def world() -> World:
    return tiny_world()


def test_the_split_is_disjoint_complete_and_ascending() -> None:
    parts = split(1000, PLAN)
    every = (parts.fitting, parts.weighing, parts.reference)
    assert [part.numel() for part in every] == [600, 150, 250]
    assert torch.equal(torch.cat(every).sort().values, torch.arange(1000))
    assert all((part.diff() > 0).all() for part in every)


def test_another_seed_splits_otherwise() -> None:
    assert not torch.equal(split(1000, PLAN).fitting, split(1000, replace(PLAN, seed=1)).fitting)


def test_the_manifest_says_what_was_fitted(world: World) -> None:
    manifest = world.baseline.manifest
    assert (manifest.fit_inputs, manifest.weighing_inputs) == (360, 90)
    assert (manifest.reference_inputs, manifest.alert_on) == (150, "surprise")
    assert manifest.model_fingerprint == world.model.fingerprint
    assert manifest.decomposition_fingerprint == world.decomposition.fingerprint
    assert manifest.sites == ("1", "3")
    assert [(spec.name, spec.dtype, spec.shape) for spec in manifest.inputs] == [
        ("x", "float32", (8,))
    ]
    assert manifest.created == CREATED


def test_the_threshold_separates_the_false_alarm_rate_of_the_reference(world: World) -> None:
    above = (world.baseline.reference > world.baseline.manifest.threshold_bits).sum()
    assert above == int(0.05 * 151) - 1


def test_the_same_fit_gives_the_same_baseline(world: World) -> None:
    again = fit(
        world.model, world.decomposition, world.trusted, PLAN, created=CREATED, progress=quiet
    )
    assert again.manifest == world.baseline.manifest
    assert torch.equal(again.reference, world.baseline.reference)


def test_batches_of_another_size_give_the_same_code(world: World) -> None:
    again = fit(
        world.model,
        world.decomposition,
        world.trusted,
        replace(PLAN, batch_size=7),
        created=CREATED,
        progress=quiet,
    )
    torch.testing.assert_close(again.reference, world.baseline.reference, rtol=1e-6, atol=0)


@pytest.mark.parametrize("measure", ["mechanism", "novelty"])
def test_alerts_go_by_the_measure_asked_for(measure: Measure) -> None:
    world = tiny_world(replace(PLAN, alert_on=measure), sites=("3",))
    own = world.baseline.references[MEASURES.index(measure)]
    assert torch.equal(world.baseline.reference, own.sort().values)
    for verdict in world.monitor.judge({"x": ordinary(300, seed=2)}).verdicts:
        bits = verdict.mechanism_bits if measure == "mechanism" else verdict.novelty_bits
        assert verdict.is_alert == (bits > world.baseline.manifest.threshold_bits)


def test_inputs_can_be_ranked_among_those_of_their_own_context() -> None:
    world = tiny_world(replace(PLAN, by_context=True), sites=("3",))
    contexts, reference = world.baseline.contexts, world.baseline.references[0]
    assert contexts.unique().tolist() == [0, 1, 2]
    for verdict in world.monitor.judge({"x": ordinary(50, seed=2)}).verdicts:
        own = reference[contexts == verdict.context]
        # At 5 % a context needs 19 of its own.
        own = own if own.numel() >= 19 else reference
        at_least = int((own >= verdict.surprise_bits).sum())
        assert verdict.p_value == (at_least + 1) / (own.numel() + 1)


def test_activity_by_effect_is_what_the_answer_owes_to_components() -> None:
    world = tiny_world(replace(PLAN, activity="effect"), sites=("3",))
    x = {"x": ordinary(5, seed=2)}
    slopes = differentiated(world.model, world.decomposition, x)
    expected = by_effect(world.decomposition, slopes, keep=16)["3"]
    found = world.monitor.scorer.score(x).observed.activity["3"]
    assert torch.equal(found.components, expected.components)
    assert torch.equal(found.magnitudes, expected.magnitudes)
    assert world.baseline.manifest.activity == "effect"


@pytest.mark.parametrize("name", get_args(SetCodeName))
def test_every_code_of_active_sets_can_be_chosen(name: SetCodeName) -> None:
    world = tiny_world(replace(PLAN, set_code=name), sites=("3",))
    code = next(part.code for part in world.baseline.parts if part.term == "set")
    assert KINDS["bayes" if name == "clusters" else name] is type(code)
    judged = world.monitor.judge({"x": strange(20, seed=4)})
    assert all(verdict.is_alert for verdict in judged.verdicts)


def test_magnitudes_and_means_by_context_are_fitted_when_asked_for() -> None:
    plan = replace(PLAN, magnitudes=True, residual_by_context=True)
    world = tiny_world(plan, sites=("3",))
    codes = {part.term: part.code for part in world.baseline.parts}
    assert list(codes) == ["set", "output", "magnitudes", "residual", "neighbours"]
    residual = codes["residual"]
    assert isinstance(residual, GaussianCode)
    assert residual.mean.shape == (4, 16)  # three contexts, and any other


def test_without_context_nothing_is_said_of_the_output() -> None:
    world = tiny_world(replace(PLAN, context="none"), sites=("3",))
    assert [type(part.code).__name__ for part in world.baseline.parts] == [
        "BayesCode",
        "GaussianCode",
        "NeighbourCode",
    ]
    (verdict,) = world.monitor.judge({"x": ordinary(1, seed=2)}).verdicts
    assert verdict.context == -1


def test_a_decomposition_without_components_has_no_set() -> None:
    model = MonitoredModel.of(tiny_module(), name="tiny", inputs=["x"])
    baseline = fit(
        model, Unexplained("3"), Rows(ordinary(300, seed=3)), PLAN, created=CREATED, progress=quiet
    )
    assert [(part.site, part.term) for part in baseline.parts] == [
        ("3", "residual"),
        ("3", "neighbours"),
    ]


def test_a_model_whose_output_predicts_nothing_has_no_code_of_it() -> None:
    world = tiny_world(sites=("3",))
    module = Waves(world.model.module)
    model = MonitoredModel.of(module, name="waves", inputs=["x"])
    (one,) = world.decomposition.parts
    assert isinstance(one, Dictionary)
    decomposition = Joined((looking(one, site="real.3"),))
    baseline = fit(model, decomposition, world.trusted, PLAN, created=CREATED, progress=quiet)
    assert [part.term for part in baseline.parts] == ["set", "residual", "neighbours"]
    judged = Monitor.bind(model, decomposition, baseline).judge({"x": strange(5, seed=4)})
    assert [(one.is_alert, one.context) for one in judged.verdicts] == [(True, -1)] * 5


class Waves(torch.nn.Module):
    """A model that answers in complex numbers."""

    def __init__(self, real: torch.nn.Module) -> None:
        super().__init__()
        self.real = real

    def forward(self, x: Tensor) -> Tensor:
        """Return the real answer, and it backwards as what is imaginary."""
        real = self.real(x)
        return torch.complex(real, real.flip(-1))


def kept_rows(plan: FitPlan) -> list[int]:
    world = tiny_world(plan, sites=("3",))
    codes = [part.code for part in world.baseline.parts]
    return [row for code in codes if isinstance(code, NeighbourCode) for row in code.rows.tolist()]


def test_kept_activations_are_a_sample_of_the_fitting_part() -> None:
    fitting = set(split(600, PLAN).fitting.tolist())
    everything = kept_rows(PLAN)
    assert len(everything) == int(360 * 0.98)
    assert set(everything) < fitting
    few = kept_rows(replace(PLAN, neighbours=100))
    assert len(few) == 98
    assert set(few) < fitting


@pytest.mark.parametrize("neighbours", [0, 19])
def test_too_few_kept_activations_give_no_neighbour_code(neighbours: int) -> None:
    assert kept_rows(replace(PLAN, neighbours=neighbours)) == []


def test_a_site_too_wide_for_a_full_covariance_gets_a_low_rank_one() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(8, 5_000))
    model = MonitoredModel.of(module, name="wide", inputs=["x"])
    rows = Rows(ordinary(300, seed=3))
    baseline = fit(model, Unexplained("0"), rows, PLAN, created=CREATED, progress=quiet)
    assert type(baseline.parts[0].code).__name__ == "LowRankCode"
    judged = Monitor.bind(model, Unexplained("0"), baseline).judge({"x": strange(5, seed=4)})
    assert all(verdict.is_alert for verdict in judged.verdicts)


def test_views_of_the_same_activations_have_one_neighbourhood() -> None:
    world = tiny_world(sites=("3",))
    (one,) = world.decomposition.parts
    assert isinstance(one, Dictionary)
    twice = Joined((one, looking(one, suffix="again")))
    baseline = fit(world.model, twice, world.trusted, PLAN, created=CREATED, progress=quiet)
    found = [part.site for part in baseline.parts if part.term == "neighbours"]
    assert found == ["3"]
    assert {part.site for part in baseline.parts} == {"3", "3:again"}


def test_progress_reaches_its_total_in_every_stage(world: World) -> None:
    last: dict[str, tuple[int, int]] = {}

    def progress(stage: str, *, done: int, total: int, note: str = "") -> None:
        assert note == ""
        last[stage] = (done, total)

    fit(world.model, world.decomposition, world.trusted, PLAN, created=CREATED, progress=progress)
    assert last == {
        "fitting codes": (360, 360),
        "weighing parts": (90, 90),
        "calibrating": (150, 150),
    }


def trained_digests(data: Rows, plan: FitPlan) -> Tensor:
    model = MonitoredModel.of(tiny_module(), name="tiny", inputs=["x"])
    quick = DictionaryPlan(width=8, k=2, steps=1)
    rows = split(len(data), plan).fitting
    return train_dictionaries(model, ["3"], data, quick, rows=rows, progress=quiet).seen


def test_dictionaries_trained_on_the_fitting_part_have_not_seen_the_reference() -> None:
    data = Rows(ordinary(300, seed=1))
    check_unseen(data, PLAN, trained_digests(data, PLAN))


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"reference_share": 0.6}],
)
def test_a_reference_that_dictionaries_have_seen_is_refused(change: dict[str, float]) -> None:
    data = Rows(ordinary(300, seed=1))
    seen = trained_digests(data, PLAN)
    with pytest.raises(
        ConfigError, match=r"held out to weigh and calibrate trained .*train them again"
    ):
        check_unseen(data, replace(PLAN, **change), seen)  # type: ignore[arg-type]  # of either kind


def test_reordered_data_that_was_seen_is_refused_and_new_data_is_not() -> None:
    x = ordinary(300, seed=1)
    seen = trained_digests(Rows(x), PLAN)
    with pytest.raises(ConfigError, match="trained the dictionaries"):
        check_unseen(Rows(x.flip(0)), PLAN, seen)
    check_unseen(Rows(ordinary(300, seed=2)), PLAN, seen)


def test_inputs_that_stand_in_the_data_twice_are_no_sign_of_a_seen_reference() -> None:
    twins = Rows(ordinary(10, seed=1).repeat(30, 1))
    check_unseen(twins, PLAN, trained_digests(twins, PLAN))
