"""The speed benchmark of dictionaries, at a size that takes no time."""

import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from mad.bench.dictionary_speed import encoding, run, show_encoding
from mad.bench.dictionary_speed_peer import Size
from mad.bench.dictionary_speed_scaling import curve, draw_curve, show_curve
from mad.bench.dictionary_speed_training import Ours, Vectors, lined_up, race

SMALL = Size(coordinates=16, width=256, k=4, steps=4)


def small_vectors() -> Vectors:
    return Vectors.superposed(SMALL, batch=64, held=128, active=3)


def test_the_vectors_are_the_same_each_time_and_none_is_both_trained_on_and_held_out() -> None:
    first, again = small_vectors(), small_vectors()
    assert first.batches.shape == (4, 64, 16)
    assert first.held.shape == (128, 16)
    assert torch.equal(first.batches, again.batches)
    distances = torch.cdist(first.batches.flatten(0, 1), first.held)
    assert distances.min() > 0


def test_each_takes_all_steps_in_turns_and_is_judged_on_held_out_vectors() -> None:
    ours = Ours(SMALL, small_vectors(), "data")
    trained, limit = race({"mad": ours}, SMALL, rounds=2)
    (one,) = trained
    assert one.name == "mad"
    assert one.step_ms > 0
    assert 0 < one.unexplained < 1
    assert limit.step_ms == limit.encode + limit.gradient + limit.decode


def test_encoding_is_timed_beside_the_bare_product() -> None:
    ours = Ours(SMALL, small_vectors(), "data")
    ours.train(SMALL.steps)
    (encoded,) = encoding({"mad": ours}, SMALL, batches=[16], rounds=2)
    console = Console(record=True, width=120)
    show_encoding([encoded], console)
    assert f"({encoded.encode_ms['mad'] / encoded.product_ms:.2f})" in console.export_text()


def test_a_run_prints_a_row_for_each_trainer_and_batch() -> None:
    console = Console(record=True, width=160)
    run(Size(16, 256, 4, 2), console, peers_python=None, rounds=1)
    printed = console.export_text()
    assert "mad, data" in printed
    assert "1024" in printed


@pytest.mark.slow
def test_libraries_that_cannot_be_imported_do_not_take_part(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with lined_up(SMALL, small_vectors(), sys.executable) as contenders:
        assert set(contenders) == {"mad", "mad, data"}
    assert "No module named 'sae_lens'" in capfd.readouterr().err


@pytest.mark.slow
def test_the_curve_is_printed_and_drawn(tmp_path: Path) -> None:
    points = curve(widths=[512], coordinates=[], k=4)
    console = Console(record=True, width=120)
    show_curve(points, console)
    assert "512" in console.export_text()
    file = tmp_path / "figures" / "curve.png"
    draw_curve(points, file)
    assert file.read_bytes().startswith(b"\x89PNG")
    assert file.stat().st_size < 60_000
