"""Detectors that read a batch, against numpy and closed forms."""

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from torch import Tensor

from mad.bench.offline import (
    MIN_BATCH,
    OFFLINE_PEERS,
    check_batch,
    measure_offline,
    over_sites,
    quantum_entropy,
    spectral_signature,
)
from mad.bench.seen import Seen
from mad.errors import InputError


def ordinary(count: int, *, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(8, 8, generator=torch.Generator().manual_seed(9))
    return 3 + torch.randn(count, 8, generator=generator) @ mixing


TRUSTED, SCALING = ordinary(2_000, seed=1), ordinary(500, seed=2)
PUSH = 3 * (TRUSTED - TRUSTED.mean(dim=0))[:1]
"""Where anomalies are pushed: one direction, by as much as ordinary inputs go."""


def batch(count: int, *, odd: int) -> Tensor:
    vectors = ordinary(count, seed=3)
    vectors[:odd] += PUSH
    return vectors


def test_quantum_entropy_is_its_formula() -> None:
    untrusted, asked = batch(300, odd=30), ordinary(20, seed=4)
    mean = TRUSTED.double().numpy().mean(axis=0)
    lower = np.linalg.cholesky(np.linalg.inv(np.cov(TRUSTED.double().numpy(), rowvar=False)))
    whitened = (untrusted.double().numpy() - mean) @ lower
    longest = np.linalg.norm((TRUSTED.double().numpy() - mean) @ lower, axis=1).max()
    length = np.linalg.norm(whitened, axis=1, keepdims=True)
    assert (length > longest).any()
    spread = np.cov(whitened * np.minimum(1, longest / length), rowvar=False)
    weight = expm(4 * spread / np.linalg.norm(spread, ord=2))
    z = (asked.double().numpy() - mean) @ lower
    wanted = np.einsum("bi,ij,bj->b", z, weight / np.trace(weight), z)
    found = quantum_entropy(TRUSTED, untrusted)(asked).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_a_signature_is_the_projection_on_the_top_component_of_the_batch() -> None:
    untrusted = batch(300, odd=30).double().numpy()
    centred = untrusted - untrusted.mean(axis=0)
    top = np.linalg.svd(centred, full_matrices=False)[2][0]
    found = spectral_signature(TRUSTED, torch.from_numpy(untrusted).float())
    np.testing.assert_allclose(
        found(torch.from_numpy(untrusted).float()).numpy(), (centred @ top) ** 2, rtol=1e-3
    )


def test_what_a_batch_has_in_common_is_found_where_one_input_alone_looks_ordinary() -> None:
    untrusted = batch(1_000, odd=100)
    sites = {"a": TRUSTED}
    score = over_sites(quantum_entropy, sites, {"a": SCALING}, {"a": untrusted})
    found = score({"a": untrusted})
    wins = (found[:100].unsqueeze(1) > found[100:]).double().mean()
    assert float(wins) > 0.9


def test_one_huge_input_does_not_hide_what_others_have_in_common() -> None:
    untrusted = batch(1_000, odd=100)
    untrusted[500] = 1e30
    score = quantum_entropy(TRUSTED, untrusted)
    found = score(untrusted)
    assert int(found.argmax()) == 500
    wins = (found[:100].unsqueeze(1) > found[100:]).double().mean()
    assert float(wins) > 0.9


def test_bits_of_an_ordinary_batch_are_those_of_rarity() -> None:
    score = over_sites(
        quantum_entropy, {"a": TRUSTED}, {"a": SCALING}, {"a": ordinary(500, seed=5)}
    )
    # One in 2^b inputs is rarer than b bits; three standard deviations of 2,000 draws.
    share = (score({"a": ordinary(2_000, seed=6)}) > 4).double().mean()
    assert float(share) == pytest.approx(1 / 16, abs=0.03)


def test_sites_add_up() -> None:
    one = over_sites(quantum_entropy, {"a": TRUSTED}, {"a": SCALING}, {"a": batch(200, odd=20)})
    twice = over_sites(
        quantum_entropy,
        {"a": TRUSTED, "b": TRUSTED},
        {"a": SCALING, "b": SCALING},
        {"a": batch(200, odd=20), "b": batch(200, odd=20)},
    )
    asked = ordinary(30, seed=7)
    torch.testing.assert_close(twice({"a": asked, "b": asked}), 2 * one({"a": asked}))


def test_a_batch_too_small_to_have_anything_in_common_is_refused() -> None:
    check_batch(MIN_BATCH)
    with pytest.raises(InputError, match=r"99 untrusted inputs .* are too few.*give at least 100"):
        check_batch(99)


def seen(vectors: Tensor) -> Seen:
    predicted = torch.zeros(len(vectors), dtype=torch.int64)
    return Seen({"a": vectors}, vectors, predicted, 0.0)


def test_the_benchmark_mixes_one_anomaly_into_ten_and_scores_everything() -> None:
    tests = {"test_normal": seen(ordinary(900, seed=8)), "test_anomalous": seen(batch(50, odd=50))}
    all_seen = {
        "fitting": seen(TRUSTED),
        "scaling": seen(SCALING),
        "reference": seen(ordinary(400, seed=10)),
        **tests,
    }
    measured = measure_offline(all_seen, seed=0, clock=lambda: 0.0)
    assert list(measured) == [f"{name}_untrusted10" for name in OFFLINE_PEERS]
    for one in measured.values():
        sizes = {name: found.numel() for name, found in one.scores.items()}
        assert sizes == {"reference": 400, "test_normal": 900, "test_anomalous": 50}
    few = all_seen | {"test_anomalous": seen(batch(9, odd=9))}
    assert measure_offline(few, seed=0, clock=lambda: 0.0) == {}
