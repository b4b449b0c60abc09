"""``mad report accounting``: from a settings file to a table, a JSON file and a picture."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Mad, write_deployment

PNG = b"\x89PNG\r\n\x1a\n"
VOCABULARIES = ["neurons", "PCA", "dictionary"]


def test_accounting_prints_a_table_and_writes_every_figure(
    tmp_path: Path, mad: Mad, fitted: Path
) -> None:
    out, table, plot = (tmp_path / name for name in ("a.json", "a.md", "a.png"))
    paths = ("--out", out, "--table", table, "--plot", plot)
    done = mad("report", "accounting", fitted, *paths, "--rank-bits", 4)
    assert "Bits of an active set, at 4 bits a rank" in done.out
    assert done.code == 0
    assert "600 trusted inputs, an input (360 fitted, means over 240 held out)" in done.out
    found = json.loads(out.read_text())
    assert list(found["all_sites"]) == VOCABULARIES
    for vocabulary, figures in found["all_sites"].items():
        whole = sum(figures["bits_an_input"].values())
        assert figures["total_bits"] == pytest.approx(600 * whole)
        line = next(row for row in table.read_text().splitlines() if f"| {vocabulary} |" in row)
        assert line.endswith(f"| {whole:.1f} |")
        assert f"{whole:.1f}" in done.out
    assert plot.read_bytes().startswith(PNG)
    for stage in ("settling the grid", "fitting codes", "measuring"):
        assert stage in done.err


def test_accounts_of_sites_add_up(tmp_path: Path, mad: Mad, fitted: Path) -> None:
    out = tmp_path / "a.json"
    mad("report", "accounting", fitted, "--out", out)
    found = json.loads(out.read_text())
    own = [site for site in found["sites"] if site["vocabulary"] == "dictionary"]
    assert [site["site"] for site in own] == ["1", "3"]
    whole = found["all_sites"]["dictionary"]["total_bits"]
    assert sum(site["total_bits"] for site in own) == pytest.approx(whole)
    # 32 directions and an offset, of 16 coordinates each.
    assert [site["vocabulary_parameters"] for site in own] == [33 * 16, 33 * 16]
    assert all(site["largest_error_steps"] < 0.5 + 1e-6 for site in found["sites"])


@pytest.mark.slow
def test_a_step_half_as_wide_takes_a_bit_more_for_each_neuron_that_speaks(
    tmp_path: Path, mad: Mad, fitted: Path
) -> None:
    out = tmp_path / "a.json"
    found = []
    for step in (0.02, 0.01):
        mad("report", "accounting", fitted, "--step", step, "--out", out)
        found.append(json.loads(out.read_text()))
    coarse, fine = (one["all_sites"]["neurons"]["total_bits"] / 600 for one in found)
    active = [one["active"] for one in found[1]["sites"] if one["vocabulary"] == "neurons"]
    assert fine - coarse == pytest.approx(sum(active), abs=1)


@pytest.mark.parametrize("option", ["--out", "--table", "--plot"])
def test_a_place_that_is_not_there_is_refused_before_the_work(
    tmp_path: Path, mad: Mad, fitted: Path, option: str
) -> None:
    done = mad("report", "accounting", fitted, option, tmp_path / "nowhere" / "file")
    assert done.code == 2
    assert "there is no directory" in done.err
    assert "fitting codes" not in done.err


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, mad: Mad, fitted: Path) -> None:
    done = mad("report", "accounting", fitted, "--out", tmp_path)
    assert done.code == 2
    assert f"cannot write {tmp_path}" in done.err


def test_without_matplotlib_a_plot_is_refused_with_the_remedy_before_the_work(
    tmp_path: Path, mad: Mad, fitted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = mad("report", "accounting", fitted, "--plot", tmp_path / "a.png")
    assert done.code == 2
    assert "pip install 'mad[bench]'" in done.err
    assert "fitting codes" not in done.err
    assert mad("report", "accounting", fitted, "--table", tmp_path / "a.md").code == 0


def test_without_dictionaries_it_says_how_to_train_them(tmp_path: Path, mad: Mad) -> None:
    done = mad("report", "accounting", write_deployment(tmp_path))
    assert done.code == 2
    assert "run `mad train dictionary` or `mad fit`" in done.err


def test_dictionaries_that_saw_the_held_out_inputs_are_refused(
    tmp_path: Path, mad: Mad, fitted: Path
) -> None:
    folder = shutil.copytree(fitted.parent, tmp_path / "copy")
    config = folder / "mad.toml"
    config.write_text(config.read_text().replace("[baseline]", "[baseline]\nseed = 5"))
    done = mad("report", "accounting", config)
    assert done.code == 2
    assert "trained the dictionaries" in done.err


@pytest.mark.parametrize("step", ["0", "-1", "2", "nan"])
def test_a_step_that_is_no_share_is_refused(mad: Mad, fitted: Path, step: str) -> None:
    assert mad("report", "accounting", fitted, "--step", step).code == 2
