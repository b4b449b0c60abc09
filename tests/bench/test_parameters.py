"""A parameter decomposition is a row of ``mad bench``, trained by a rule of model and data."""

from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from mad.arrays import Table
from mad.bench.own import Plans
from mad.bench.parameters import COST, WIDEST, finer, usual_plan
from mad.bench.run import Asked, run
from mad.bench.tasks import load_task
from mad.capture.model import MonitoredModel
from mad.cli.main import app
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.parameters.training.plan import LayerPlan, SpdPlan
from mad.errors import ConfigError
from mad.fit import FitPlan, split
from tests.bench.folders import write_task
from tests.worlds import quiet


@pytest.mark.slow
def test_its_rows_stand_beside_the_default(tmp_path: Path) -> None:
    dictionary = DictionaryPlan(width=32, k=4, steps=60, batch_size=128, search=False)
    plans = Plans(FitPlan(name="tiny"), dictionary, decomposition_steps=30)
    task = load_task(write_task(tmp_path / "good"))
    found = run(task, plans, Asked(parameters=True), progress=quiet).figures
    assert {"mad", "mad:parameters", "mad:parameters:mechanism", "mad:both"} <= set(found)
    blatant = found["mad:parameters"].estimates["auroc"]
    assert blatant is not None
    assert blatant.value > 0.99


def test_the_rule_reads_sizes_of_layers_and_the_scale_of_answers() -> None:
    last = nn.Linear(14, 1, bias=False)
    module = nn.Sequential(nn.Linear(40, 14), nn.ReLU(), last)
    model = MonitoredModel.of(module, name="sized", inputs=["x"])
    data = Table({"x": torch.randn(600, 40, generator=torch.Generator().manual_seed(0))})
    rows = split(600, FitPlan(name="rule"))
    plan = usual_plan(model, data, rows, steps=10, seed=0)
    assert plan.layers == (LayerPlan("0", 40), LayerPlan("2", 4))
    with torch.no_grad():
        last.weight.mul_(3.0)
    louder = usual_plan(model, data, rows, steps=10, seed=0)
    ratio = louder.importance_coefficient / plan.importance_coefficient
    assert ratio == pytest.approx(9.0, rel=1e-4)
    with torch.no_grad():
        variance = float(module(data.take(rows.fitting)["x"]).var())
    assert louder.importance_coefficient == pytest.approx(COST * variance, rel=1e-4)


def test_finer_pieces_are_dearer_too() -> None:
    plan = SpdPlan(layers=(LayerPlan("wide", 300), LayerPlan("usual", 100), LayerPlan("few", 4)))
    more = finer(plan)
    assert [one.width for one in more.layers] == [300, WIDEST, 16]
    assert more.importance_coefficient == 4 * plan.importance_coefficient


@pytest.mark.parametrize("module", [nn.ReLU(), nn.Linear(500, 500)], ids=["none", "large"])
def test_a_model_that_is_no_small_one_is_refused(module: nn.Module) -> None:
    model = MonitoredModel.of(module, name="odd", inputs=["x"])
    data = Table({"x": torch.zeros(600, 500)})
    with pytest.raises(ConfigError, match="leave it out for this task"):
        usual_plan(model, data, split(600, FitPlan(name="rule")), steps=10, seed=0)


def test_an_unknown_decomposition_is_refused_before_any_work(tmp_path: Path) -> None:
    folder = str(write_task(tmp_path / "good"))
    outcome = CliRunner().invoke(app, ["bench", folder, "--decomposition", "weights"])
    assert isinstance(outcome.exception, ConfigError)
    assert "there is: parameters" in str(outcome.exception)
