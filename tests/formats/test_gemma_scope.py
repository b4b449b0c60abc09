"""Gemma Scope's arrays; the same JumpReLU autoencoder as dictionary_learning's, by other names."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mad.components import formats
from mad.errors import ConfigError
from tests.formats.cases import GOLDEN, NEAR, Case, cases, computed, distance

ARRAYS = ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")


@pytest.fixture
def case() -> Case:
    (found,) = (one for one in cases(GOLDEN) if one.name.endswith("JumpReluAutoEncoder"))
    return found


def published(case: Case, root: Path) -> Path:
    """Lay the autoencoder of another library out as Gemma Scope's are."""
    path = root / "gemma-scope-2b-pt-mlp" / "layer_12" / "width_16k" / "average_l0_82"
    path.mkdir(parents=True)
    state = torch.load(case.path / "ae.pt", weights_only=True)
    np.savez(path / "params.npz", **{name: state[name].numpy() for name in ARRAYS})
    return path


def test_latents_and_reconstruction_are_those_of_the_same_weights(
    case: Case, tmp_path: Path
) -> None:
    read = formats.read(published(case, tmp_path), "gemma_scope", site=case.site)
    assert distance(computed(read, case.vectors), case.expected) < NEAR


def test_where_it_belongs_is_in_the_path(case: Case, tmp_path: Path) -> None:
    path = published(case, tmp_path)
    site = "model.layers.12.post_feedforward_layernorm"
    assert formats.read(path, "gemma_scope").look.writes == (site,)


def test_what_is_written_reads_back_as_the_same_function(case: Case, tmp_path: Path) -> None:
    formats.write(case.read(), tmp_path, "gemma_scope")
    again = formats.read(tmp_path, "gemma_scope", site=case.site)
    assert distance(computed(again, case.vectors), case.expected) < NEAR


def test_other_kinds_and_broken_archives_are_refused(case: Case, tmp_path: Path) -> None:
    topk = formats.read(GOLDEN / "saelens_topk", "saelens")
    with pytest.raises(ConfigError, match="knows JumpReLU dictionaries, and this one is topk"):
        formats.write(topk, tmp_path, "gemma_scope")
    with pytest.raises(ConfigError, match=r"cannot read .*params.npz"):
        formats.read(tmp_path / "nowhere", "gemma_scope")
    (tmp_path / "params.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(ConfigError, match="is not an archive of plain arrays"):
        formats.read(tmp_path, "gemma_scope")
    np.savez(tmp_path / "params.npz", W_enc=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ConfigError, match="is not an archive of plain arrays"):
        formats.read(tmp_path, "gemma_scope")
    path = published(case, tmp_path)
    arrays = dict(np.load(path / "params.npz"))
    np.savez(path / "params.npz", **arrays | {"threshold": arrays["threshold"] * np.nan})
    with pytest.raises(ConfigError, match="array 'threshold' holds NaN"):
        formats.read(path, "gemma_scope")
