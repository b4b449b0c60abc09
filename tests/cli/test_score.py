"""``mad score`` and ``mad explain``: verdicts without a server."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Mad, write_deployment
from tests.worlds import ordinary


def read_lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def cells(printed: str) -> list[list[str]]:
    """Return the rows of every table printed."""
    lines = [line for line in printed.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]


def test_score_writes_one_verdict_an_input(tmp_path: Path, mad: Mad, fitted: Path) -> None:
    done = mad("score", fitted, fitted.with_name("strange.npz"), "--out", tmp_path / "out.jsonl")
    assert done.code == 0
    lines = read_lines(tmp_path / "out.jsonl")
    assert [line["row"] for line in lines] == [0, 1, 2, 3, 4]
    for line in lines:
        assert line["is_alert"] is True
        assert line["p_value"] == pytest.approx(1 / 151)
        parts = line["parts"]
        assert isinstance(parts, list)
        assert sum(part["bits"] for part in parts) == pytest.approx(line["description_bits"])
        assert {"surprise_bits", "mechanism_bits", "novelty_bits"} <= set(line)
        for part in parts:
            assert part["rarity_bits"] >= 0
            alone, combined = part["rare_components_bits"], part["rare_combination_bits"]
            assert (alone is None) == (combined is None) == (part["term"] != "set")
            if part["term"] == "set":
                assert alone + combined == pytest.approx(part["bits"])
    assert "5 of 5 inputs (100.00%) have a p-value at or below 0.05" in done.out
    assert "5 by surprise" in done.out
    assert "5 by novelty" in done.out


def test_an_input_the_model_breaks_down_on_is_still_a_line_of_json(
    tmp_path: Path, mad: Mad, fitted: Path
) -> None:
    np.savez(tmp_path / "huge.npz", x=np.full((1, 8), 3e38, np.float32))
    done = mad("score", fitted, tmp_path / "huge.npz", "--out", tmp_path / "out.jsonl")
    assert done.code == 0
    assert "NaN" not in (tmp_path / "out.jsonl").read_text()
    (line,) = read_lines(tmp_path / "out.jsonl")
    assert line["surprise_bits"] == line["description_bits"] == "Infinity"
    assert line["is_alert"] is True


def test_what_each_measure_alerts_on_is_counted_as_the_alerts_are(mad: Mad, fitted: Path) -> None:
    done = mad("score", fitted, fitted.with_name("trusted.npz"), "--top", 0)
    told = re.search(r"(\d+) of 600 inputs", done.out)
    assert told
    assert int(told[1]) > 0
    assert f"each measure by itself, at that rate: {told[1]} by surprise" in done.out


def test_score_shows_the_most_surprising_first(tmp_path: Path, mad: Mad, fitted: Path) -> None:
    mixed = tmp_path / "mixed.npz"
    x = ordinary(20, seed=5).numpy()
    x[13] = -3
    np.savez(mixed, x=x)
    done = mad("score", fitted, mixed, "--top", 1)
    rows = [line for line in done.out.splitlines() if line.startswith("│")]
    assert [row.split("│")[1].strip() for row in rows] == ["13"]


def test_explain_names_sites_terms_and_components_that_add_up(mad: Mad, fitted: Path) -> None:
    done = mad("explain", fitted, fitted.with_name("strange.npz"), 2)
    assert done.code == 0
    assert "Row 2 of" in done.out
    assert "default@1" in done.out
    assert "set" in done.out
    assert "residual" in done.out
    assert "everything else:" in done.out
    for told in ("surprise, bits", "mechanism, bits", "novelty, bits", "rare combination"):
        assert told in done.out
    ledger, _, rest = done.out.partition("everything else:")
    rarities = [float(row[2]) for row in cells(ledger) if len(row) == 6 and row[1] != "term"]
    assert len(rarities) == 8
    assert rarities == sorted(rarities, reverse=True)
    charges = [row for row in cells(done.out) if len(row) == 8 and row[1] != "term"]
    assert len(charges) == 20
    for _, _, _, bits, typical, above, *_ in charges:
        assert float(above) == pytest.approx(float(bits) - float(typical), abs=0.011)
    similar = [row for row in cells(rest) if len(row) == 6 and row[1] != "row"]
    assert [row[0] for row in similar] == ["1", "3"]
    for _, _, distance, shared, missing, extra in similar:
        own, all_of_both = len(shared.split()), len(f"{shared} {missing} {extra}".split())
        assert float(distance) == pytest.approx(1 - own / all_of_both, abs=0.006)


def test_explain_says_what_the_model_would_answer_without_what_is_named(
    mad: Mad, fitted: Path
) -> None:
    arguments = ("explain", fitted, fitted.with_name("strange.npz"), 2, "--charges", 1000)
    done = mad(*arguments, "--counterfactual")
    assert done.code == 0
    table = done.out.partition("Without what is named")[2]
    for taken in (r"\d+( \d+)*", "the residual"):
        assert re.search(rf"│ +1 │ {taken} +│ +[0-2] │ +[0-2] │ +[\d.]+% │", table)
    assert "Without what is named" not in mad(*arguments).out


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        ({"x": np.zeros((2, 9), np.float32)}, "has shape (2, 9); expected (batch, 8)"),
        ({"x": np.zeros((2, 8))}, "input 'x' is float64; the model takes float32"),
    ],
)
def test_inputs_unlike_the_trusted_ones_are_refused(
    tmp_path: Path, mad: Mad, fitted: Path, arrays: dict[str, np.ndarray], named: str
) -> None:
    file = tmp_path / "wrong.npz"
    np.savez(file, x=arrays["x"])
    done = mad("score", fitted, file)
    assert done.code == 1
    assert named in done.err


def test_a_number_that_is_not_finite_is_refused_with_its_row(
    tmp_path: Path, mad: Mad, fitted: Path
) -> None:
    x = ordinary(4, seed=5).numpy()
    x[2, 1] = np.nan
    np.savez(tmp_path / "nan.npz", x=x)
    done = mad("score", fitted, tmp_path / "nan.npz")
    assert done.code == 2
    assert "NaN or infinity in row 2" in done.err


@pytest.mark.parametrize("revision", ["default@7", "other", "De fault"])
def test_an_unknown_baseline_is_refused(mad: Mad, fitted: Path, revision: str) -> None:
    done = mad("score", fitted, fitted.with_name("ordinary.npz"), "--baseline", revision)
    assert done.code == 1
    assert revision in done.err


def test_a_row_that_is_not_there_is_refused(mad: Mad, fitted: Path) -> None:
    done = mad("explain", fitted, fitted.with_name("strange.npz"), 5)
    assert done.code == 1
    assert "rows 0 to 4" in done.err


def test_a_result_file_that_cannot_be_written_is_named(mad: Mad, fitted: Path) -> None:
    done = mad("score", fitted, fitted.with_name("strange.npz"), "--out", "/nowhere/out.jsonl")
    assert done.code == 2
    assert "cannot write /nowhere/out.jsonl" in done.err


def test_scoring_before_training_says_what_to_run(tmp_path: Path, mad: Mad) -> None:
    config = write_deployment(tmp_path)
    done = mad("score", config, tmp_path / "strange.npz")
    assert done.code == 2
    assert (
        f"there are no dictionaries in {tmp_path / 'dictionaries'}; run `mad train dictionary`"
        in done.err
    )


def test_a_baseline_of_another_model_is_refused(tmp_path: Path, mad: Mad, fitted: Path) -> None:
    settings = fitted.read_text().replace(
        '"3"]', '"3"]\npath = "' + str(fitted.parent / "dictionaries") + '"'
    )
    settings = settings.replace(
        "[baseline]", f'[baseline]\nstore = "{fitted.parent / "baselines"}"'
    )
    settings = settings.replace('"model.safetensors"', f'"{fitted.parent / "model.safetensors"}"')
    (tmp_path / "model.py").write_text(
        "from torch import nn\n"
        "from tests.worlds import tiny_module\n"
        "def build():\n"
        "    whole = tiny_module()\n"
        "    whole[1] = nn.LeakyReLU()\n"
        "    return whole\n"
    )
    (tmp_path / "mad.toml").write_text(settings)
    done = mad("score", tmp_path / "mad.toml", fitted.with_name("strange.npz"))
    assert done.code == 1
    assert "was fitted on another model" in done.err
