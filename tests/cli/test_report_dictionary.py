"""``mad report dictionary``: from a settings file to tables, files, pictures and a page."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.files import load_dictionaries, save_dictionaries
from tests.cli.conftest import Mad, write_deployment
from tests.markup import Markup

PNG = b"\x89PNG\r\n\x1a\n"
HOSTILE = """"'><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7 * 7 }}"""


def first_dictionary(config: Path) -> Dictionary:
    part = load_dictionaries(config.parent / "dictionaries").parts[0]
    assert isinstance(part, Dictionary)
    return part


def test_every_figure_is_printed_and_written(tmp_path: Path, mad: Mad, fitted: Path) -> None:
    out, table, plot, page = (tmp_path / f"a.{kind}" for kind in ("json", "md", "png", "html"))
    files = ("--out", out, "--table", table, "--plot", plot, "--page", page)
    done = mad("report", "dictionary", "--config", fitted, *files)
    assert done.code == 0
    # Those held out to weigh parts, 15 % of 600; the reference is not looked at.
    assert "2 dictionaries of tiny on 90 held-out trusted inputs" in done.out
    found = json.loads(out.read_text())
    assert [one["view"] for one in found["dictionaries"]] == ["1", "3"]
    text = page.read_text()
    for one in found["dictionaries"]:
        cell = f"{one['reconstruction']['unexplained_variance']:.4f}"
        assert 0 < one["splice"]["recovered_from_mean"] <= 1
        for shown in (done.out, table.read_text(), text):
            assert cell in shown
            assert f"{one['length']['description_bits']:.1f}" in shown
    assert plot.read_bytes().startswith(PNG)


def test_the_page_opens_without_a_network_or_scripts(
    tmp_path: Path, mad: Mad, fitted: Path
) -> None:
    page = tmp_path / "a.html"
    mad("report", "dictionary", "--config", fitted, "--page", page)
    found = Markup(page.read_text())
    assert {"svg", "table", "rect"} <= set(found.tags)
    assert not {"script", "link", "img", "iframe"} & set(found.tags)
    assert not {"src", "href"} & {name for name, _ in found.attributes}
    assert "url(" not in page.read_text()


def test_names_are_shown_as_they_are_and_never_as_markup(
    tmp_path: Path, mad: Mad, fitted: Path
) -> None:
    other, page = tmp_path / "other", tmp_path / "a.html"
    own = first_dictionary(fitted)
    hostile = replace(own, look=replace(own.look, suffix=HOSTILE))
    save_dictionaries(other, [hostile], seen=torch.zeros(0, dtype=torch.int64))
    done = mad("report", "dictionary", "--config", fitted, "--other", other, "--page", page)
    assert done.code == 0
    found = Markup(page.read_text())
    assert not {"script", "img"} & set(found.tags)
    assert any(HOSTILE in words for words in found.words)


def test_a_dictionary_is_like_one_of_another_directory_or_deployment(
    tmp_path: Path, mad: Mad, fitted: Path
) -> None:
    out = tmp_path / "a.json"
    for other in (fitted, fitted.parent / "dictionaries"):
        done = mad("report", "dictionary", "--config", fitted, "--other", other, "--out", out)
        assert done.code == 0
        pairs = {
            (one["first"], one["second"]): one for one in json.loads(out.read_text())["comparisons"]
        }
        itself = pairs["1", "1 (other)"]
        assert itself["similarity"]["cka_debiased"] == pytest.approx(1)
        assert itself["recovery"]["nearest"]["mean"] == pytest.approx(1)
        assert pairs["1", "3 (other)"]["recovery"] is None


def test_known_directions_are_looked_for(tmp_path: Path, mad: Mad, fitted: Path) -> None:
    truth, out = tmp_path / "truth.safetensors", tmp_path / "a.json"
    decoder = first_dictionary(fitted).decoder
    for name in ("1", "any other name"):
        save_file({name: decoder[::2].contiguous()}, truth)
        done = mad("report", "dictionary", "--config", fitted, "--truth", truth, "--out", out)
        assert done.code == 0
        own, rest = json.loads(out.read_text())["dictionaries"]
        assert own["truth"]["known"] == 16
        assert own["truth"]["matched"]["mean"] == pytest.approx(1)
        assert (rest["truth"] is None) == (name == "1")


def test_known_directions_that_are_no_rows_are_refused(
    tmp_path: Path, mad: Mad, fitted: Path
) -> None:
    truth = tmp_path / "truth.safetensors"
    save_file({"1": torch.zeros(3)}, truth)
    done = mad("report", "dictionary", "--config", fitted, "--truth", truth)
    assert done.code == 2
    assert "give one row of floats for each direction" in done.err


def test_losses_are_against_the_labels_in_the_trusted_data(
    tmp_path: Path, mad: Mad, fitted: Path
) -> None:
    folder = shutil.copytree(fitted.parent, tmp_path / "copy")
    config, out = folder / "mad.toml", tmp_path / "a.json"
    asked = ("report", "dictionary", "--config", config, "--labels", "label", "--out", out)
    refused = mad(*asked)
    assert refused.code == 2
    assert "is none of the 3 that the model answers" in refused.err
    trusted = np.load(folder / "trusted.npz")
    np.savez(folder / "trusted.npz", x=trusted["x"], label=np.arange(600) % 3)
    assert mad(*asked).code == 0
    one = json.loads(out.read_text())["dictionaries"][0]
    assert one["splice"]["loss"] == "cross-entropy"
    assert one["splice"]["clean_bits"] > 0.5


def test_pictures_go_into_a_directory(tmp_path: Path, mad: Mad, fitted: Path) -> None:
    assert mad("report", "dictionary", "--config", fitted, "--plot", tmp_path / "p").code == 0
    pictures = sorted((tmp_path / "p").iterdir())
    assert [one.name for one in pictures] == ["000.png", "001.png", "all.png"]
    assert all(one.read_bytes().startswith(PNG) for one in pictures)


@pytest.mark.parametrize("option", ["--out", "--table", "--plot", "--page"])
def test_a_place_that_is_not_there_is_refused_before_the_work(
    tmp_path: Path, mad: Mad, fitted: Path, option: str
) -> None:
    done = mad("report", "dictionary", "--config", fitted, option, tmp_path / "nowhere" / "file")
    assert done.code == 2
    assert "there is no directory" in done.err
    assert "measuring" not in done.err


@pytest.mark.parametrize("option", ["--out", "--table", "--page"])
def test_a_directory_where_a_file_is_to_be_is_refused_before_the_work(
    tmp_path: Path, mad: Mad, fitted: Path, option: str
) -> None:
    done = mad("report", "dictionary", "--config", fitted, option, tmp_path)
    assert done.code == 2
    assert f"{tmp_path}: it is a directory; name a file in it" in done.err
    assert "measuring" not in done.err


def test_tables_that_go_to_a_file_are_not_folded(mad: Mad, fitted: Path) -> None:
    done = mad("report", "dictionary", "--config", fitted)
    heads = [line for line in done.out.splitlines() if "debiased CKA" in line]
    assert len(heads) == 1
    assert "interval" in heads[0]


def test_without_matplotlib_a_plot_is_refused_and_a_page_is_not(
    tmp_path: Path, mad: Mad, fitted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    asked = ("report", "dictionary", "--config", fitted)
    done = mad(*asked, "--plot", tmp_path / "a.png")
    assert done.code == 2
    assert "pip install 'mad[bench]'" in done.err
    assert "measuring" not in done.err
    assert mad(*asked, "--page", tmp_path / "a.html").code == 0


def test_without_dictionaries_it_says_how_to_train_them(tmp_path: Path, mad: Mad) -> None:
    done = mad("report", "dictionary", "--config", write_deployment(tmp_path))
    assert done.code == 2
    assert "run `mad train dictionary` or `mad fit`" in done.err


def test_dictionaries_that_saw_the_held_out_inputs_are_refused(
    tmp_path: Path, mad: Mad, fitted: Path
) -> None:
    folder = shutil.copytree(fitted.parent, tmp_path / "copy")
    config = folder / "mad.toml"
    config.write_text(config.read_text().replace("[baseline]", "[baseline]\nseed = 5"))
    done = mad("report", "dictionary", "--config", config)
    assert done.code == 2
    assert "trained the dictionaries" in done.err
