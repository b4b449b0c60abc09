"""The dashboards are what their script writes, and keep the rules of Grafana's dashboard-linter."""

import re
from itertools import combinations
from pathlib import Path

import pytest

from mad.metrics import TABLE
from tests.deploy.boards import FOLDER, NAMES, asked, panels, read, selectors
from tests.deploy.tools import DEPLOY, needs_tools, run

every_board = pytest.mark.parametrize("name", NAMES)
PROCESS = {
    *("process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"),
    *("process_max_fds", "process_start_time_seconds", "up"),
}
UNITS = {"bytes", "cps", "none", "percentunit", "reqps", "s", "short"}


@needs_tools
def test_the_committed_dashboards_are_what_the_script_writes(tmp_path: Path) -> None:
    run("python", "-B", DEPLOY / "grafana" / "generate.py", tmp_path)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert set(written) == {f"{name}.json" for name in NAMES}


@every_board
def test_a_dashboard_is_chosen_by_source_job_and_instance(name: str) -> None:
    board = read(name)
    variables = {one["name"]: one for one in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    assert variables["datasource"]["label"] == "Data source"
    for one in ("job", "instance", "model", "baseline"):
        variable = variables[one]
        assert variable["type"] == "query"
        assert variable["datasource"]["uid"] == "$datasource"
        assert variable["label"] == one.title()
        assert variable["multi"]
        assert variable["allValue"] == ".+"
        assert variable["refresh"] == 2


@every_board
def test_a_dashboard_is_changed_by_its_script_alone(name: str) -> None:
    board = read(name)
    assert board["editable"] is False
    assert board["uid"] == f"mad-{name}"


@every_board
def test_every_panel_says_what_it_shows_in_which_unit(name: str) -> None:
    shown = panels(read(name))
    assert len({(panel["title"], panel["type"]) for panel in shown}) == len(shown)
    for panel in shown:
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["datasource"]["uid"] == "$datasource"
        assert panel["targets"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS


@every_board
def test_every_series_is_exported_and_chosen_by_job_and_instance(name: str) -> None:
    exported = {series.name for series in TABLE} | PROCESS
    for query in asked(read(name)):
        found = selectors(query.expr)
        assert found
        assert len(re.findall(r"\{", query.expr)) == len(found)
        for series, matchers in found:
            assert 'job=~"$job"' in matchers
            assert 'instance=~"$instance"' in matchers
            assert not series or re.sub(r"_(bucket|count|sum)$", "", series) in exported, series


@every_board
def test_counters_are_rates_over_intervals_that_grafana_chooses(name: str) -> None:
    for query in asked(read(name)):
        ranges = re.findall(r"(\w+)\([\w:]+\{[^}]*\}\[([^\]]+)\]\)", query.expr)
        assert query.expr.count("[") == len(ranges)
        allowed = {
            "rate": {"$__rate_interval"},
            "increase": {"$__rate_interval", "$__range"},
        }
        assert all(interval in allowed[call] for call, interval in ranges)
        counters = re.findall(r"(\w+)\(\w+_total\{", query.expr)
        assert query.expr.count("_total{") == len(counters)
        assert set(counters) <= {"rate", "increase"}


@every_board
def test_panels_fill_the_page_and_cover_none(name: str) -> None:
    places = [panel["gridPos"] for panel in read(name)["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        over = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or over, (one, other)


def test_dashboards_are_told_apart() -> None:
    assert len({read(name)["title"] for name in NAMES}) == len(NAMES)
