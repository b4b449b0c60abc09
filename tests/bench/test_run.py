"""The benchmark as a user runs it: folders in, a table and JSON out."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mad.arrays import Table
from mad.bench.report import as_json
from mad.bench.run import Plans, run
from mad.bench.tasks import load_task
from mad.cli.main import main
from mad.components.dictionaries.train import DictionaryPlan
from mad.components.joined import Joined
from mad.fit import FitPlan, fit, split, train_dictionaries
from mad.monitor import Monitor
from tests.bench.folders import write_task
from tests.worlds import CREATED, quiet

FIGURES = {
    "auroc",
    "average_precision",
    "recall_at_fpr_01",
    "recall_at_fpr_001",
    "auroc_vs_shift",
    "shift_flag_rate_alpha_01",
    "realised_fpr_alpha_01",
}
TIMES = {"fit_seconds", "ms_per_1000"}
PEERS = ["mahalanobis", "knn", "knn_cosine", "max_softmax"]
PLANS = Plans(FitPlan(name="tiny"), DictionaryPlan(width=32, k=4, steps=60, batch_size=128))

Scores = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_task(tmp_path_factory.mktemp("tasks") / "good")


def measure(folder: Path, *others: str, with_peers: bool = False) -> Scores:
    task = load_task(folder)
    result = run(task, PLANS, configurations=others, with_peers=with_peers, progress=quiet)
    return json.loads(json.dumps(as_json(result)))["scores"]  # type: ignore[no-any-return]  # JSON


@pytest.fixture(scope="module")
def scores(folder: Path) -> Scores:
    return measure(folder, "residual", "independent", with_peers=True)


def test_every_method_has_exactly_the_agreed_keys(scores: Scores) -> None:
    assert list(scores) == ["mad", "mad:residual", "mad:independent", *PEERS]
    for of_method in scores.values():
        assert set(of_method) == FIGURES | TIMES | {"n_calibration", "ci95"}
        assert set(of_method["ci95"]) == FIGURES
        assert of_method["n_calibration"] == 160
        assert of_method["recall_at_fpr_001"] is None
        for name in ("auroc", "auroc_vs_shift", "realised_fpr_alpha_01"):
            low, high = of_method["ci95"][name]
            assert low <= of_method[name] <= high


def test_a_blatant_anomaly_is_found_by_every_way_of_scoring(scores: Scores) -> None:
    for method in ("mad", "mad:residual", "mad:independent", "mahalanobis", "knn"):
        assert scores[method]["auroc"] > 0.95, method
        assert scores[method]["recall_at_fpr_01"] > 0.9, method


def test_the_same_task_and_plans_give_the_same_figures_whatever_else_is_asked(
    folder: Path, scores: Scores
) -> None:
    again = measure(folder)["mad"]
    for name in FIGURES | {"ci95"}:
        assert again[name] == scores["mad"][name]


def test_alarms_are_those_that_the_monitor_raises(folder: Path, scores: Scores) -> None:
    task = load_task(folder)
    data, rows = Table(task.trusted), split(len(task.trusted["input"]), PLANS.fit).fitting
    trained = train_dictionaries(
        task.model, task.sites, data, PLANS.dictionary, rows=rows, progress=quiet
    )
    whole = Joined(trained.dictionaries)
    baseline = fit(task.model, whole, data, PLANS.fit, created=CREATED, progress=quiet)
    monitor = Monitor.bind(task.model, whole, baseline)
    for name, figure in (
        ("test_normal", "realised_fpr_alpha_01"),
        ("benign_shift", "shift_flag_rate_alpha_01"),
    ):
        verdicts = monitor.judge(task.tests[name]).verdicts
        share = sum(verdict.is_alert for verdict in verdicts) / len(verdicts)
        assert scores["mad"][figure] == pytest.approx(share, abs=1e-6)


@pytest.mark.slow
def test_a_broken_task_gets_one_line_and_the_others_still_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = write_task(folder.with_name("broken"), input_encoding="audio")
    out = folder.with_name("results.json")
    with pytest.raises(SystemExit) as ending:
        main(["bench", str(broken), str(folder), "--out", str(out)])
    assert ending.value.code == 2
    printed = capsys.readouterr()
    told = [line for line in printed.err.splitlines() if "input_encoding" in line]
    assert len(told) == 1
    assert "not 'audio'" in told[0]
    assert printed.err.splitlines()[-1] == "1 of 2 tasks could not be measured; see above"
    (only,) = json.loads(out.read_text())
    assert set(only) == {"task", "configuration", "scores"}
    assert only["task"] == "tiny_far_s0"
    assert list(only["scores"]) == ["mad"]
    assert "tiny_far_s0" in printed.out


def test_an_unknown_configuration_is_refused_before_any_work(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ending:
        main(["bench", str(folder), "--configuration", "best"])
    assert ending.value.code == 2
    wanted = "configuration 'best' is none of default, independent, set, residual, neighbours"
    assert capsys.readouterr().err.strip() == wanted


@pytest.mark.skipif("MAD_TASKS" not in os.environ, reason="MAD_TASKS names no folder of tasks")
def test_every_real_task_can_be_read() -> None:
    folders = sorted(path.parent for path in Path(os.environ["MAD_TASKS"]).glob("*/meta.json"))
    assert folders
    for one in folders:
        task = load_task(one)
        assert task.name == one.name
        assert len(task.trusted["input"]) >= 1_000
