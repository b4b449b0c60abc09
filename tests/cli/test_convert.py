"""``mad convert``: dictionaries of other libraries become ones that ``mad fit`` uses, and back."""

import shutil
from pathlib import Path

import pytest

from mad.components import formats
from mad.components.dictionaries.files import load_seen
from tests.cli.conftest import Mad, write_deployment
from tests.formats.cases import GOLDEN, NEAR, cases, computed, distance


def test_a_pickle_from_elsewhere_becomes_ours(tmp_path: Path, mad: Mad) -> None:
    (case,) = (one for one in cases(GOLDEN) if one.name == "openai_topk")
    out = tmp_path / "dictionaries"
    done = mad("convert", case.path, out, "--from", "openai", "--site", "transformer.h.0")
    assert done.code == 0
    assert f"16 topk latents of transformer.h.0 written to {out}" in done.out
    assert distance(computed(formats.read(out, "mad"), case.vectors), case.expected) < NEAR


def test_of_a_dictionary_from_elsewhere_no_inputs_seen_are_known(tmp_path: Path, mad: Mad) -> None:
    out = tmp_path / "dictionaries"
    done = mad("convert", GOLDEN / "saelens_topk", out, "--from", "saelens")
    assert "what it was trained on is unknown: keep that out of the trusted data" in done.out
    assert load_seen(out).numel() == 0


def test_a_transcoder_is_named_by_both_its_sites(tmp_path: Path, mad: Mad) -> None:
    out = tmp_path / "dictionaries"
    options = ("--from", "saelens", "--site", "fc2", "--reads", "fc1", "--pooling", "mean")
    done = mad("convert", GOLDEN / "saelens_transcoder", out, *options)
    assert "16 relu latents of fc2 from fc1 written" in done.out
    look = formats.read(out, "mad").look
    assert (look.reads, look.writes, look.pooling) == (("fc1",), ("fc2",), "mean")


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_a_pooling_that_another_layout_loses_is_said(
    pooling: str, tmp_path: Path, mad: Mad
) -> None:
    ours, away = tmp_path / "ours", tmp_path / "away"
    mad("convert", GOLDEN / "saelens_topk", ours, "--from", "saelens", "--pooling", pooling)
    done = mad("convert", ours, away, "--from", "mad", "--to", "sparsify")
    assert done.code == 0
    assert (f"name --pooling {pooling}" in done.out) == (pooling != "last")


def test_fit_and_score_use_a_dictionary_that_went_through_another_library(
    tmp_path: Path, mad: Mad, fitted: Path
) -> None:
    config = write_deployment(tmp_path)
    config.write_text(config.read_text().replace('sites = ["1", "3"]', 'sites = ["1"]'))
    away, ours = tmp_path / "away", tmp_path / "dictionaries"
    trained = fitted.parent / "dictionaries"
    assert (
        mad("convert", trained, away, "--from", "mad", "--to", "saelens", "--site", "1").code == 0
    )
    assert mad("convert", away, ours, "--from", "saelens").code == 0
    done = mad("fit", config)
    assert done.code == 0, done.err
    assert "unexplained variance" not in done.out, "another dictionary was trained"
    assert "baseline default@1 written" in done.out
    assert mad("score", config, tmp_path / "trusted.npz").code in (0, 1)


@pytest.mark.parametrize("exists", ["file", "directory"])
def test_nothing_is_written_over(exists: str, tmp_path: Path, mad: Mad) -> None:
    out = tmp_path / "out"
    if exists == "file":
        out.write_text("mine")
    else:
        shutil.copytree(GOLDEN / "saelens_topk", out)
    done = mad("convert", GOLDEN / "saelens_standard", out, "--from", "saelens")
    assert done.code == 2
    assert f"{out} exists; remove it, or name another place" in done.err


def test_one_of_several_dictionaries_must_be_named(tmp_path: Path, mad: Mad, fitted: Path) -> None:
    trained = fitted.parent / "dictionaries"
    done = mad("convert", trained, tmp_path / "out", "--from", "mad", "--to", "saelens")
    assert done.code == 2
    assert "name one of them with --site" in done.err
