"""``mad score --offline``: what a batch has in common, beside the verdict of each input."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Mad
from tests.worlds import ordinary, tiny_module


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Return 300 inputs of which rows 20 to 39 are all pushed the same way."""
    x = ordinary(300, seed=5).numpy()
    x[20:40, 4:] += 1.5
    np.savez(tmp_path / "mixed.npz", x=x)
    return tmp_path / "mixed.npz"


def test_what_a_batch_has_in_common_is_written_beside_each_verdict(
    tmp_path: Path, mad: Mad, fitted: Path, mixed: Path
) -> None:
    done = mad("score", fitted, mixed, "--offline", "--out", tmp_path / "out.jsonl", "--top", 3)
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines] == list(range(300))
    bits = np.array([line["offline_bits"] for line in lines])
    p = np.array([line["offline_p_value"] for line in lines])
    assert {"surprise_bits", "p_value"} < set(lines[0])
    assert (p[20:40] <= 0.05).mean() >= 0.8
    # Of the other 280 one in twenty; four standard deviations.
    others = np.delete(p, range(20, 40))
    assert (others <= 0.05).mean() <= 0.05 + 4 * np.sqrt(0.05 * 0.95 * (1 / 280 + 1 / 150))
    assert f"offline: {(p <= 0.05).sum()} of 300 inputs" in done.out
    shown = [line.split("│")[1].strip() for line in done.out.splitlines() if line.startswith("│")]
    assert shown == [str(row) for row in np.argsort(-bits)[:3]]


def test_online_verdicts_are_the_same_with_or_without(
    tmp_path: Path, mad: Mad, fitted: Path, mixed: Path
) -> None:
    mad("score", fitted, mixed, "--offline", "--out", tmp_path / "with.jsonl")
    mad("score", fitted, mixed, "--out", tmp_path / "without.jsonl")
    offline, online = (
        [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        for name in ("with.jsonl", "without.jsonl")
    )
    for line in offline:
        del line["offline_bits"], line["offline_p_value"]
    assert offline == online


def test_too_few_inputs_are_refused_with_what_to_do(mad: Mad, fitted: Path) -> None:
    done = mad("score", fitted, fitted.with_name("strange.npz"), "--offline")
    assert done.code == 1
    assert "2 untrusted inputs to learn from are too few" in done.err
    assert "give at least 100, twice that where each half is scored by the other" in done.err


def test_inputs_the_model_breaks_down_on_are_infinite_and_spoil_no_other(
    tmp_path: Path, mad: Mad, fitted: Path
) -> None:
    x = ordinary(220, seed=6).numpy()
    # As much as float32 holds, along the first unit: a sum of eight is more than it holds.
    x[7] = 3e38 * tiny_module().state_dict()["0.weight"][0].sign().numpy()
    np.savez(tmp_path / "huge.npz", x=x)
    done = mad("score", fitted, tmp_path / "huge.npz", "--offline", "--out", tmp_path / "o.jsonl")
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines if line["offline_bits"] == "Infinity"] == [7]
