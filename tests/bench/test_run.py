"""The benchmark as a user runs it: folders in, a table and JSON out."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mad.arrays import Table
from mad.bench.own import Plans
from mad.bench.peers.measure import JOINT_PEERS, SITE_PEERS
from mad.bench.peers.outputs import OUTPUT_PEERS
from mad.bench.report import as_json
from mad.bench.run import Asked, run
from mad.bench.tasks import load_task
from mad.cli.main import main
from mad.components.dictionaries.plan import DictionaryPlan
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
PEERS = [
    *(f"{name}_{rule}" for name in SITE_PEERS for rule in ("mean", "max")),
    "ensemble",
    *JOINT_PEERS,
    *OUTPUT_PEERS,
]
PLANS = Plans(FitPlan(name="tiny"), DictionaryPlan(width=32, k=4, steps=60, batch_size=128))
MEASURES = ["mad", "mad:mechanism", "mad:novelty"]
MAD_ALONE = Asked()

Scores = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_task(tmp_path_factory.mktemp("tasks") / "good")


def measure(folder: Path, asked: Asked = MAD_ALONE) -> dict[str, Any]:
    result = run(load_task(folder), PLANS, asked, progress=quiet)
    return json.loads(json.dumps(as_json(result)))  # type: ignore[no-any-return]  # JSON


@pytest.fixture(scope="module")
def whole(folder: Path) -> dict[str, Any]:
    return measure(folder, Asked(("residual", "independent"), kinds=("topk",), peers=True))


@pytest.fixture(scope="module")
def scores(whole: dict[str, Any]) -> Scores:
    return whole["scores"]  # type: ignore[no-any-return]  # JSON


def test_every_method_has_exactly_the_agreed_keys(whole: dict[str, Any]) -> None:
    assert set(whole) == {"task", "configuration", "scores", "offline"}
    scores = whole["scores"]
    ours = [*MEASURES, "mad:residual", "mad:independent", "mad:topk", "mad:topk:mechanism"]
    assert list(scores) == [*ours, *PEERS]
    assert list(whole["offline"]) == ["que_untrusted10", "spectral_untrusted10"]
    for found in (scores | whole["offline"]).values():
        assert set(found) == FIGURES | TIMES | {"n_calibration", "ci95", "realised_fpr_ci99"}
        assert set(found["ci95"]) == FIGURES
        assert found["n_calibration"] == 100
        assert found["recall_at_fpr_001"] is None
        for name in ("auroc", "auroc_vs_shift", "realised_fpr_alpha_01"):
            low, high = found["ci95"][name]
            assert low <= found[name] <= high
        low, high = found["realised_fpr_ci99"]
        assert low <= found["realised_fpr_alpha_01"] <= high


def test_a_blatant_anomaly_is_found_by_every_way_of_scoring(scores: Scores) -> None:
    for method in (
        "mad",
        "mad:residual",
        "mad:independent",
        "maha_mean",
        "knn_max",
        "ensemble",
        "ae",
    ):
        assert scores[method]["auroc"] > 0.95, method
        assert scores[method]["recall_at_fpr_01"] > 0.9, method


def test_the_same_task_and_plans_give_the_same_figures_whatever_else_is_asked(
    folder: Path, scores: Scores
) -> None:
    again = measure(folder)["scores"]["mad"]
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


def test_seeds_of_fit_are_averaged(folder: Path) -> None:
    both = measure(folder, Asked(seeds=2))
    assert both["configuration"]["seeds"] == [0, 1]
    first, second = (
        json.loads(json.dumps(as_json(run(load_task(folder), PLANS.seeded(seed), progress=quiet))))
        for seed in (0, 1)
    )
    for name in ("auroc", "recall_at_fpr_01", "realised_fpr_alpha_01", "auroc_vs_shift"):
        of_seeds = [one["scores"]["mad"][name] for one in (first, second)]
        assert both["scores"]["mad"][name] == pytest.approx(sum(of_seeds) / 2, abs=2e-6)


@pytest.mark.slow
def test_a_broken_task_gets_one_line_and_the_others_still_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = write_task(folder.with_name("broken"), input_encoding="audio")
    out, table = folder.with_name("results.json"), folder.with_name("results.md")
    written = ["--out", str(out), "--table", str(table), "--plot", str(table.parent)]
    with pytest.raises(SystemExit) as ending:
        main(["bench", str(broken), str(folder), *written])
    assert ending.value.code == 2
    printed = capsys.readouterr()
    told = [line for line in printed.err.splitlines() if "input_encoding" in line]
    assert len(told) == 1
    assert "not 'audio'" in told[0]
    assert printed.err.splitlines()[-1] == "1 of 2 tasks could not be measured; see above"
    (only,) = json.loads(out.read_text())
    assert set(only) == {"task", "configuration", "scores", "offline"}
    assert only["task"] == "tiny_far_s0"
    assert list(only["scores"]) == MEASURES
    assert "tiny_far_s0" in printed.out
    assert "| tiny_far_s0 | `mad:novelty` |" in table.read_text()
    assert table.with_name("tiny_far_s0.png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_configuration_is_refused_before_any_work(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ending:
        main(["bench", str(folder), "--configuration", "best"])
    assert ending.value.code == 2
    wanted = "configuration 'best' is none of default, independent, set, output, residual, "
    assert capsys.readouterr().err.startswith(wanted)


@pytest.mark.skipif("MAD_TASKS" not in os.environ, reason="MAD_TASKS names no folder of tasks")
def test_every_real_task_can_be_read() -> None:
    folders = sorted(path.parent for path in Path(os.environ["MAD_TASKS"]).glob("*/meta.json"))
    assert folders
    for one in folders:
        task = load_task(one)
        assert task.name == one.name
        assert len(task.trusted["input"]) >= 1_000
