"""Frames that normalise each vector by itself."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.files import load_dictionaries, save_dictionaries
from mad.components.dictionaries.frame import Frame, RowNorm
from mad.components.dictionaries.kinds.topk import TopKEncoder
from mad.components.dictionaries.look import Look
from mad.errors import ConfigError

RULES: tuple[RowNorm, ...] = ("none", "layer_norm", "norm")
VECTORS = torch.tensor([[3.0, 4.0, 0.0, 5.0], [-1.0, 0.5, 2.0, 0.25]])


def frame(rows: RowNorm) -> Frame:
    return Frame(torch.tensor([0.1, -0.2, 0.3, 0.0]), torch.tensor(2.0), rows)


def dictionary(rows: RowNorm) -> Dictionary:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 6, generator=generator)
    one = frame(rows)
    encoder = TopKEncoder(weight, torch.full((6,), 0.1), 2)
    return Dictionary(Look.at("site", "flatten"), encoder, weight.T.clone(), one, one, (4,))


def test_layer_norm_leaves_mean_zero_and_unit_deviation() -> None:
    alone = Frame(torch.zeros(4), torch.ones(()), "layer_norm").normalised(VECTORS)
    assert torch.allclose(alone.mean(dim=1), torch.zeros(2), atol=1e-6)
    # The deviation's own epsilon is left out: 1e-5 of a deviation near one.
    assert torch.allclose(alone.std(dim=1), torch.ones(2), atol=2e-5)


def test_norm_leaves_a_length_of_the_root_of_the_coordinates() -> None:
    alone = Frame(torch.zeros(4), torch.ones(()), "norm").normalised(VECTORS)
    assert torch.allclose(alone.norm(dim=1), torch.full((2,), 2.0))
    # (3, 4, 0, 5) has length 7.0711.
    assert torch.allclose(alone[0], VECTORS[0] * 2 / 50**0.5)


@pytest.mark.parametrize("rows", RULES)
def test_what_was_normalised_is_restored(rows: RowNorm) -> None:
    one = frame(rows)
    assert torch.allclose(one.restored(one.normalised(VECTORS), VECTORS), VECTORS, atol=1e-4)


@pytest.mark.parametrize("rows", RULES)
@pytest.mark.parametrize("vectors", [torch.zeros(2, 4), torch.full((2, 4), 3.0)])
def test_vectors_without_spread_are_taken_as_they_are(rows: RowNorm, vectors: Tensor) -> None:
    activity = dictionary(rows).activity({"site": vectors})["site"]
    assert activity.residual.isfinite().all()
    assert (activity.magnitudes != 0).all()


@pytest.mark.parametrize("rows", RULES)
def test_a_magnitude_is_a_share_of_the_activation(rows: RowNorm) -> None:
    one = dictionary(rows)
    activity = one.activity({"site": VECTORS})["site"]
    directions = one.directions("site", activity.components)
    shares = torch.zeros(2, 4).index_add(
        0, activity.rows, activity.magnitudes[:, None] * directions
    )
    bare = one.target.restored(torch.zeros(2, 4), VECTORS)
    assert torch.allclose(bare + shares + activity.residual, VECTORS, atol=1e-5)


@pytest.mark.parametrize("rows", RULES)
def test_the_rule_comes_back_from_disk(rows: RowNorm, tmp_path: Path) -> None:
    one = dictionary(rows)
    save_dictionaries(tmp_path, [one], seen=torch.zeros(0, dtype=torch.int64))
    (again,) = load_dictionaries(tmp_path).parts
    assert isinstance(again, Dictionary)
    assert again.source.rows == rows
    assert again.fingerprint == one.fingerprint


def test_dictionaries_of_different_rules_have_different_fingerprints() -> None:
    assert len({dictionary(rows).fingerprint for rows in RULES}) == len(RULES)


def test_an_unknown_rule_in_an_index_is_refused(tmp_path: Path) -> None:
    save_dictionaries(tmp_path, [dictionary("norm")], seen=torch.zeros(0, dtype=torch.int64))
    index = tmp_path / "dictionaries.json"
    index.write_text(index.read_text().replace('"norm"', '"batch"'))
    with pytest.raises(ConfigError, match="row normalisation 'batch' is none of none, layer_norm"):
        load_dictionaries(tmp_path)
