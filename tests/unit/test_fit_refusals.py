"""What a fit refuses: data that are too few or not numbers, and what they could not tell."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mad.capture.model import MonitoredModel
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.unexplained import Unexplained
from mad.errors import ConfigError
from mad.fit import FitPlan, fit, split, train_dictionaries
from tests.worlds import CREATED, PLAN, Rows, ordinary, quiet, tiny_module


def test_too_little_trusted_data_is_refused_saying_how_much_is_needed() -> None:
    plan = FitPlan(name="x", false_alarm_rate=0.001, reference_share=0.4)
    with pytest.raises(ConfigError, match=r"80 for the reference.*needs 999 .* at least 2498"):
        split(200, plan)
    assert split(2498, plan).reference.numel() == 999
    with pytest.raises(ConfigError, match=r"19 to weigh parts; .* and 20: give at least 134"):
        split(133, PLAN)
    assert split(134, PLAN).weighing.numel() == 20


def test_shares_that_leave_nothing_to_fit_are_refused_however_much_there_is() -> None:
    plan = FitPlan(name="x", reference_share=0.6, weighing_share=0.4)
    with pytest.raises(ConfigError, match=r"0\.6 and weighing_share 0\.4 leave no .* less than 1"):
        split(10_000, plan)


def test_alerts_by_mechanism_are_refused_where_there_are_no_components() -> None:
    model = MonitoredModel.of(tiny_module(), name="tiny", inputs=["x"])
    plan, rows = replace(PLAN, alert_on="mechanism"), Rows(ordinary(300, seed=3))
    with pytest.raises(ConfigError, match=r"\['3'\] have no components.* train dictionaries, or"):
        fit(model, Unexplained("3"), rows, plan, created=CREATED, progress=quiet)


def test_activations_that_are_not_finite_are_refused() -> None:
    model = MonitoredModel.of(tiny_module(), name="tiny", inputs=["x"])
    trusted = ordinary(300, seed=3)
    trusted[:] = torch.finfo(torch.float32).max
    with pytest.raises(ConfigError, match="'3' gives NaN or infinite numbers on trusted inputs"):
        fit(model, Unexplained("3"), Rows(trusted), PLAN, created=CREATED, progress=quiet)


@pytest.mark.parametrize(("part", "message"), [("weighing", "1 of 45"), ("reference", "1 of 75")])
def test_a_model_that_breaks_down_on_held_out_inputs_is_refused(part: str, message: str) -> None:
    model = MonitoredModel.of(tiny_module(), name="tiny", inputs=["x"])
    trusted = ordinary(300, seed=3)
    trusted[getattr(split(300, PLAN), part)[0]] = torch.finfo(torch.float32).max
    with pytest.raises(ConfigError, match=rf"{message} held-out trusted inputs .* remove such"):
        fit(model, Unexplained("3"), Rows(trusted), PLAN, created=CREATED, progress=quiet)


@pytest.mark.parametrize(
    ("names", "trusted", "message"),
    [
        (["y"], ordinary(300, seed=3), r"no \['y'\]; they hold \['x'\]"),
        (["x"], ordinary(300, seed=3).double(), r"fails on .* 'torch.float64 \(1, 8\)'"),
        (["x"], torch.ones(300, 5), r"fails on .* 'torch.float32 \(1, 5\)'.* give data"),
    ],
)
def test_data_the_model_does_not_take_are_refused_at_once(
    names: list[str], trusted: Tensor, message: str
) -> None:
    model = MonitoredModel.of(tiny_module(), name="tiny", inputs=names)
    with pytest.raises(ConfigError, match=message):
        fit(model, Unexplained("3"), Rows(trusted), PLAN, created=CREATED, progress=quiet)
    with pytest.raises(ConfigError, match=message):
        train_dictionaries(
            model,
            ["3"],
            Rows(trusted),
            DictionaryPlan(steps=1),
            rows=torch.arange(10),
            progress=quiet,
        )
