"""Pictures of a task: readable files that show what they are asked to."""

from pathlib import Path

import pytest
import torch

from mad.bench.figures import Measured, figures
from mad.bench.plot import check_installed, chosen, draw
from mad.bench.run import Result
from mad.errors import ConfigError

image = pytest.importorskip("matplotlib.image")


def result(*, infinite: bool = False, **pushes: float) -> Result:
    generator = torch.Generator().manual_seed(0)

    def scores(push: float) -> Measured:
        anomalous = push + torch.randn(200, generator=generator, dtype=torch.float64)
        if infinite:
            anomalous[:50] = torch.inf
        return Measured(
            {
                "reference": torch.randn(500, generator=generator, dtype=torch.float64),
                "test_normal": torch.randn(400, generator=generator, dtype=torch.float64),
                "benign_shift": 0.5 + torch.randn(90, generator=generator, dtype=torch.float64),
                "test_anomalous": anomalous,
            },
            1.0,
            2.0,
        )

    first = {name.replace("mad_", "mad:"): scores(push) for name, push in pushes.items()}
    measured = {name: figures([one], seed=0) for name, one in first.items()}
    return Result("group/one", {}, measured, {}, first)


def test_a_task_gets_a_picture_of_its_name(tmp_path: Path) -> None:
    path = draw(result(mad=3, knn=2), tmp_path / "new")
    assert path == tmp_path / "new" / "one.png"
    pixels = image.imread(path)
    assert pixels.shape[0] > 400
    assert pixels.shape[1] > 1_000
    # Something is drawn in both halves.
    half = pixels.shape[1] // 2
    for side in (pixels[:, :half, :3], pixels[:, half:, :3]):
        assert ((side < 0.5).any(axis=2)).mean() > 0.002
    assert [one.name for one in path.parent.iterdir()] == ["one.png"]


def test_infinite_surprises_are_drawn_at_the_end(tmp_path: Path) -> None:
    assert image.imread(draw(result(infinite=True, mad=3), tmp_path)).size > 0


def test_all_of_mad_and_the_three_best_peers_are_drawn() -> None:
    found = chosen(result(mad=1, mad_set=0, a=0.5, b=3, c=-1, d=4, e=5))
    assert found == ["mad", "mad:set", "e", "d", "b"]


def test_a_picture_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot write .*/file/one\.png: "):
        draw(result(mad=1), tmp_path / "file")


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed()
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"pip install 'mad\[bench\]'"):
        check_installed()
