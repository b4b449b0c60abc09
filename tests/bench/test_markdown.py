"""The Markdown page of hand-made results."""

import torch

from mad.bench.figures import Figures, Measured, figures
from mad.bench.markdown import page
from mad.bench.run import Result


def finding(share: float) -> Figures:
    """Return figures of a method that ranks that share of anomalies above everything."""
    anomalous = torch.where(torch.arange(100) < 100 * share, 1_000.0, -1.0)
    scores = {
        "reference": torch.arange(199.0).double(),
        "test_normal": torch.arange(200.0).double(),
        "test_anomalous": anomalous.double(),
    }
    return figures([Measured(scores, 1.0, 2.0)], seed=0)


def result(task: str, offline: dict[str, Figures], **shares: float) -> Result:
    own = {name.replace("mad_", "mad:"): finding(share) for name, share in shares.items()}
    return Result(task, {"seeds": [0, 1, 2]}, own, offline, {})


RESULTS = [
    result("first", {"que": finding(0.9)}, mad=0.8, mad_set=1.0, knn=0.7, lof=0.6),
    result("second", {}, mad=0.5, mad_set=0.1, knn=0.2, lof=0.6),
]


def table(heading: str, results: list[Result]) -> list[list[str]]:
    """Return the cells of the table under a heading, its header first and no rule."""
    after = page(results).split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in after.splitlines() if line.startswith("|")]
    return [line.strip("| ").split(" | ") for line in (lines[0], *lines[2:])]


def test_methods_are_ranked_by_their_mean_recall() -> None:
    header, *rows = table("Means over tasks", RESULTS)
    recall = header.index("recall at 1 %")
    found = [(row[0], float(row[recall])) for row in rows]
    assert found == [("`mad`", 0.65), ("`lof`", 0.6), ("`mad:set`", 0.55), ("`knn`", 0.45)]
    assert [row[header.index("least AUROC")] for row in rows[:2]] == ["0.500", "0.600"]


def test_mad_stands_beside_the_peer_that_hindsight_chooses_for_each_task() -> None:
    _, *rows = table("Beside the best peer", RESULTS)
    assert rows == [
        ["first", "0.800", "`knn`", "0.700", "+0.100", "0.800", "`knn`", "0.700", "+0.100"],
        ["second", "0.500", "`lof`", "0.600", "-0.100", "0.500", "`lof`", "0.600", "-0.100"],
        ["**mean**", "0.650", "", "0.650", "+0.000", "0.650", "", "0.650", "+0.000"],
    ]


def test_offline_methods_are_never_among_the_online_ones() -> None:
    _, *online = table("Means over tasks", RESULTS)
    assert "`que`" not in [row[0] for row in online]
    _, only = table("Offline", RESULTS)
    assert only[:2] == ["`que`", "1"]


def test_every_task_and_method_has_a_row() -> None:
    header, *rows = table("Every figure", RESULTS)
    assert len(rows) == 4 + 1 + 4
    assert {len(row) for row in (header, *rows)} == {len(header)}
    assert [row[:2] for row in rows[3:6]] == [
        ["first", "`lof`"],
        ["first", "`offline: que`"],
        ["second", "`mad`"],
    ]


def test_without_peers_there_is_nothing_to_stand_beside() -> None:
    alone = page([result("first", {}, mad=0.8)])
    assert "Beside" not in alone
    assert "Offline" not in alone
    assert "1 tasks, 3 seed(s) of fit each" in alone
