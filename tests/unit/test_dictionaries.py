"""Dictionaries are trained, measured, written and read."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mad.capture.model import MonitoredModel
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.files import load_dictionaries, load_seen, save_dictionaries
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.dictionaries.train import figures, train_autoencoder
from mad.components.pooling import Pooling
from mad.errors import ConfigError
from mad.fit import train_dictionaries
from tests.dictionaries import active_of, looking, with_active
from tests.worlds import Rows, quiet

SEEN = torch.tensor([3, -7])
PLAN = DictionaryPlan(width=16, k=2, steps=400, batch_size=128, learning_rate=4e-3)


def superposed(count: int) -> tuple[Tensor, Tensor]:
    """Return sums of two of sixteen directions in twelve dimensions, and the directions."""
    generator = torch.Generator().manual_seed(0)
    directions = functional.normalize(torch.randn(16, 12, generator=generator), dim=1)
    pairs = torch.rand(count, 16, generator=generator).topk(2, dim=1).indices
    strengths = 1 + torch.rand(count, 2, 1, generator=generator)
    return (directions[pairs] * strengths).sum(dim=1), directions


def trained() -> Dictionary:
    vectors, _ = superposed(4000)
    return train_autoencoder("site", vectors, PLAN, step_done=lambda _step, _unexplained: None)


@pytest.fixture(scope="module")
def dictionary() -> Dictionary:
    return trained()


def test_training_recovers_superposed_directions(dictionary: Dictionary) -> None:
    vectors, directions = superposed(4000)
    cosines = functional.normalize(dictionary.decoder, dim=1) @ directions.T
    # Random directions reach about 0.5.
    assert cosines.amax(dim=0).mean() > 0.9
    assert figures(dictionary, vectors).unexplained_variance < 0.15


@pytest.mark.slow
def test_the_same_plan_gives_the_same_dictionary(dictionary: Dictionary) -> None:
    assert trained().fingerprint == dictionary.fingerprint


def test_decoder_directions_have_unit_length(dictionary: Dictionary) -> None:
    torch.testing.assert_close(dictionary.decoder.norm(dim=1), torch.ones(16))


def test_figures_measure_the_share_of_variance_left_over(dictionary: Dictionary) -> None:
    vectors, _ = superposed(3000)
    residual = dictionary.activity({"site": vectors})["site"].residual
    left = residual.square().sum() / (vectors - vectors.mean(dim=0)).square().sum()
    measured = figures(dictionary, vectors)
    assert measured.unexplained_variance == pytest.approx(left.item(), rel=1e-5)


def test_figures_count_what_is_active(dictionary: Dictionary) -> None:
    vectors, _ = superposed(3000)
    activity = dictionary.activity({"site": vectors})["site"]
    measured = figures(dictionary, vectors)
    assert measured.active_latents == activity.components.numel() / 3000
    assert measured.dead_share == 1 - activity.components.unique().numel() / 16


def test_training_goes_on_from_another_dictionary_and_leaves_it_as_it_was(
    dictionary: Dictionary,
) -> None:
    vectors, _ = superposed(4000)
    before = dictionary.decoder.clone()
    alone = figures(with_active(dictionary, 1), vectors).unexplained_variance
    shares: list[float] = []
    on = train_autoencoder(
        "site",
        vectors,
        replace(PLAN, k=1, steps=200),
        step_done=lambda _, share: shares.append(share.unexplained),
        start=dictionary,
    )
    assert torch.equal(dictionary.decoder, before)
    assert (active_of(on), on.width) == (1, 16)
    assert shares[0] == pytest.approx(alone, rel=0.2)
    assert figures(on, vectors).unexplained_variance < alone


def test_the_first_reconstruction_is_as_long_as_it_should_be() -> None:
    """Sixteen latents that all agree with an input would add up to many times its length."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(500, 4, generator=generator)
    plan = DictionaryPlan(width=64, k=16, steps=1, learning_rate=0.0)
    untrained = train_autoencoder("site", vectors, plan, step_done=lambda *_: None)
    assert figures(untrained, vectors).unexplained_variance < 0.3


def test_every_step_is_reported() -> None:
    vectors, _ = superposed(100)
    seen: list[int] = []
    plan = DictionaryPlan(width=16, k=2, steps=5)
    train_autoencoder("site", vectors, plan, step_done=lambda step, _unexplained: seen.append(step))
    assert seen == [1, 2, 3, 4, 5]


@pytest.mark.slow
def test_dead_latents_are_revived() -> None:
    """Steps far too long kill most latents, and nothing but the auxiliary loss teaches them."""
    vectors, _ = superposed(2000)
    lazy = DictionaryPlan(
        width=64, k=1, steps=600, batch_size=128, learning_rate=0.1, dead_after=10**9
    )
    eager = replace(lazy, dead_after=2_000, auxiliary_weight=1.0)
    dead = [
        figures(
            train_autoencoder("s", vectors, plan, step_done=lambda *_: None), vectors
        ).dead_share
        for plan in (lazy, eager)
    ]
    assert dead[0] > 0.5
    assert dead[1] < 0.75 * dead[0]


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (torch.ones(1, 3), "1 vectors cannot train"),
        (torch.ones(9, 3), "the same vector"),
        (torch.full((360, 8), 0.7), "the same vector"),
        (torch.eye(9) * 1e-24, "the same vector"),
        (torch.tensor([[1.0, 2.0], [torch.nan, 1.0]]), "'site' gives NaN or infinite"),
        (torch.tensor([[1.0, 2.0], [1.0, -torch.inf]]), "'site' gives NaN or infinite"),
    ],
)
def test_vectors_that_teach_nothing_are_refused(vectors: Tensor, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train_autoencoder("site", vectors, PLAN, step_done=lambda *_: None)


class Sequences(nn.Module):
    """Hands on a sequence, and a vector made of it."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.whole = nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.tokens(x)
        whole: Tensor = self.whole(tokens.sum(dim=1))
        return whole


@pytest.mark.parametrize(
    ("pooling", "views"),
    [("auto", {"tokens": "last", "tokens:max": "max", "whole": "flatten"}), ("mean", None)],
)
def test_a_sequence_gets_a_dictionary_a_view_unless_a_pooling_is_named(
    pooling: Pooling, views: dict[str, str] | None
) -> None:
    data = Rows(torch.randn(80, 3, 5, generator=torch.Generator().manual_seed(0)))
    trained = train_dictionaries(
        MonitoredModel.of(Sequences(), name="m", inputs=["x"]),
        ["tokens", "whole"],
        data,
        replace(PLAN, steps=2, pooling=pooling),
        rows=torch.arange(80),
        progress=quiet,
    )
    expected = views or {"tokens": "mean", "whole": "mean"}
    assert {one.view: one.look.pooling for one in trained.dictionaries} == expected
    assert [one.view for one in trained.figures] == list(expected)
    centres = {one.view: one.source.centre for one in trained.dictionaries}
    if views:
        torch.testing.assert_close(centres["tokens"], data.x[:, -1].mean(dim=0))
        torch.testing.assert_close(centres["tokens:max"], data.x.amax(dim=1).mean(dim=0))


def test_dictionaries_come_back_from_disk_exactly(dictionary: Dictionary, tmp_path: Path) -> None:
    other = looking(dictionary, pooling="max", suffix="max")
    save_dictionaries(tmp_path, [dictionary, other], seen=SEEN)
    again = load_dictionaries(tmp_path)
    assert [part.fingerprint for part in again.parts] == [
        dictionary.fingerprint,
        other.fingerprint,
    ]
    assert again.views == {"site": "site", "site:max": "site"}


def test_what_the_dictionaries_saw_comes_back(dictionary: Dictionary, tmp_path: Path) -> None:
    save_dictionaries(tmp_path, [dictionary], seen=SEEN)
    assert torch.equal(load_seen(tmp_path), SEEN)
    (tmp_path / "seen.safetensors").unlink()
    with pytest.raises(
        ConfigError, match=r"seen.safetensors does not say .* `mad train dictionary`"
    ):
        load_seen(tmp_path)


def test_a_changed_dictionary_is_refused(dictionary: Dictionary, tmp_path: Path) -> None:
    save_dictionaries(tmp_path, [dictionary], seen=SEEN)
    path = tmp_path / "000.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="changed since it was written"):
        load_dictionaries(tmp_path)


def test_a_torn_rewrite_leaves_no_index(dictionary: Dictionary, tmp_path: Path) -> None:
    save_dictionaries(tmp_path, [dictionary], seen=SEEN)
    (tmp_path / "000.safetensors").unlink()
    (tmp_path / "000.safetensors").mkdir()
    with pytest.raises(ConfigError, match=r"cannot write dictionaries to .*; make room"):
        save_dictionaries(tmp_path, [dictionary], seen=SEEN)
    assert not (tmp_path / "dictionaries.json").exists()


def test_a_directory_without_an_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*dictionaries.json"):
        load_dictionaries(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 7}, r"format 7; this version reads 3: train .* with `mad train dictionary`"),
        ({"format": 2}, r"format 2; this version reads 3: train .* with `mad train dictionary`"),
        ({"dictionaries": [{"site": "s"}]}, "not an index of dictionaries"),
        ({"dictionaries": None}, "not an index of dictionaries"),
        ({"dictionaries": []}, "exactly one decomposition"),
    ],
)
def test_an_index_of_another_kind_is_refused(
    dictionary: Dictionary, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    save_dictionaries(tmp_path, [dictionary], seen=SEEN)
    index = tmp_path / "dictionaries.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | change))
    with pytest.raises(ConfigError, match=message):
        load_dictionaries(tmp_path)


def test_an_index_cannot_point_outside_its_directory(
    dictionary: Dictionary, tmp_path: Path
) -> None:
    save_dictionaries(tmp_path, [dictionary], seen=SEEN)
    index = tmp_path / "dictionaries.json"
    index.write_text(index.read_text().replace("000.safetensors", "../000.safetensors"))
    with pytest.raises(ConfigError, match="outside the directory"):
        load_dictionaries(tmp_path)
