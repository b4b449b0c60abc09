"""A second dictionary is added where, and only where, another size describes much shorter."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from mad.capture.model import MonitoredModel
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.dictionaries.topk import topk_dictionary
from mad.components.dictionaries.train import train_autoencoder
from mad.components.unexplained import Unexplained
from mad.fit import train_dictionaries
from mad.fit.description import description_bits
from mad.fit.sizes import (
    FINALS,
    MAX_COORDINATES,
    TRIALS,
    WIDTHS,
    Size,
    fewest_active,
    second_dictionary,
    shortest_size,
)
from tests.dictionaries import active_of
from tests.worlds import Rows, quiet

# Each grows dictionaries until more of it buys nothing.
pytestmark = pytest.mark.slow

FEATURES, ACTIVE, COORDINATES = 24, 2, 32
COUNT, SITE = 2_500, "0"
PLAN = DictionaryPlan(width=256, k=1, steps=300, batch_size=128)


DIRECTIONS = functional.normalize(
    torch.randn(FEATURES, COORDINATES, generator=torch.Generator().manual_seed(3)), dim=1
)


def sparse_sums(count: int) -> Tensor:
    """Return sums of exactly two of twenty-four directions that are not orthogonal, and noise."""
    generator = torch.Generator().manual_seed(0)
    used = torch.rand(count, FEATURES, generator=generator).topk(ACTIVE, dim=1).indices
    strengths = 1 + torch.rand(count, ACTIVE, 1, generator=generator)
    noise = 0.01 * torch.randn(count, COORDINATES, generator=generator)
    return (DIRECTIONS[used] * strengths).sum(dim=1) + noise


def gaussian(count: int, coordinates: int = COORDINATES) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(coordinates, coordinates, generator=generator)
    return torch.randn(count, coordinates, generator=generator) @ mixing


def first_of(vectors: Tensor) -> Dictionary:
    return train_autoencoder(SITE, vectors, PLAN, step_done=lambda *_: None)


@pytest.fixture(scope="module")
def second() -> Dictionary | None:
    vectors = sparse_sums(COUNT)
    return second_dictionary(first_of(vectors), vectors, PLAN, progress=quiet)


def test_the_size_of_a_sparse_world_is_found_and_added(second: Dictionary | None) -> None:
    assert second is not None
    assert active_of(second) == ACTIVE
    assert second.width in WIDTHS[:2]
    cosines = functional.normalize(second.decoder, dim=1) @ DIRECTIONS.T
    # Every direction has its own latent; random ones reach about 0.4.
    assert cosines.amax(dim=0).min() > 0.95


@pytest.mark.parametrize("count", [1_200, 2_500])
def test_nothing_is_added_to_a_gaussian_world(count: int) -> None:
    vectors = gaussian(count)
    assert second_dictionary(first_of(vectors), vectors, PLAN, progress=quiet) is None


def test_the_search_is_reported_and_ends_with_its_verdict() -> None:
    seen: list[tuple[str, int, int, str]] = []

    def progress(stage: str, *, done: int, total: int, note: str = "") -> None:
        seen.append((stage, done, total, note))

    vectors = gaussian(1_200)
    second_dictionary(first_of(vectors), vectors, PLAN, progress=progress)
    assert {stage for stage, *_ in seen} == {"sizing a second dictionary for 0"}
    assert [done for _, done, *_ in seen[:-1]] == list(range(1, len(seen)))
    assert seen[-1][1:3] == (TRIALS + FINALS, TRIALS + FINALS)
    assert "none much shorter" in seen[-1][3]


@pytest.mark.parametrize("shape", [(999, 4), (1_000, MAX_COORDINATES + 1)])
def test_vectors_too_few_or_too_wide_are_not_searched(shape: tuple[int, int]) -> None:
    seen: list[tuple[str, int]] = []

    def progress(stage: str, *, done: int, total: int, note: str = "") -> None:
        seen.append((f"{stage} {note}", done - total))

    first = first_of(gaussian(50))
    assert second_dictionary(first, torch.zeros(shape), PLAN, progress=progress) is None
    assert seen == []


@pytest.mark.parametrize("search", [True, False])
def test_a_second_dictionary_is_a_view_of_its_own_beside_the_first(
    search: bool, second: Dictionary | None
) -> None:
    trained = train_dictionaries(
        MonitoredModel.of(nn.Sequential(nn.Identity()), name="m", inputs=["x"]),
        [SITE],
        Rows(sparse_sums(COUNT)),
        replace(PLAN, search=search),
        rows=torch.arange(COUNT),
        progress=quiet,
    )
    first, *others = [one for one in trained.dictionaries if isinstance(one, Dictionary)]
    assert len(trained.dictionaries) == 1 + search
    assert (first.view, active_of(first), first.width) == (SITE, PLAN.k, PLAN.width)
    assert [one.view for one in trained.figures] == [one.view for one in trained.dictionaries]
    if search:
        (found,) = others
        assert found.view == f"{SITE}:w{found.width}k{ACTIVE}"
        assert (found.sites, found.look.pooling) == ((SITE,), first.look.pooling)
        # The same vectors and plan give the same dictionary.
        assert second is not None
        assert torch.equal(found.decoder, second.decoder)
    else:
        assert others == []


def bowl(width: int, k: int) -> Callable[[Size], float]:
    """Return lengths that rise with the distance from one size."""
    return lambda size: abs(math.log2(size.width / width)) + abs(math.log(size.k / k))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 17])
def test_the_shortest_size_is_found_in_a_bounded_number_of_trials(width: int, k: int) -> None:
    tried: dict[Size, float] = {}

    def measure(size: Size) -> float:
        return tried.setdefault(size, bowl(width, k)(size))

    assert shortest_size(measure, widths=WIDTHS, limit=math.inf) == Size(width, k)
    assert len(tried) <= TRIALS


def test_a_width_that_there_are_too_few_vectors_for_is_not_tried() -> None:
    assert shortest_size(bowl(256, 6), widths=WIDTHS[:-1], limit=math.inf) == Size(128, 6)


def test_the_search_ends_where_no_count_is_short_enough() -> None:
    tried: dict[Size, float] = {}

    def measure(size: Size) -> float:
        return tried.setdefault(size, 100 + bowl(128, 6)(size))

    assert shortest_size(measure, widths=WIDTHS, limit=99.0) is None
    assert {size.width for size in tried} == {128}
    assert len(tried) == 5


@pytest.mark.parametrize(
    ("lengths", "limit", "fewest"),
    [
        ({8: 325, 7: 352, 6: 370, 5: 875}, 800.0, 6),  # a little longer, then much
        ({4: 222, 3: 307}, 611.0, 4),
        ({8: 90, 7: 70, 6: 88}, 800.0, 7),  # measured against the shortest, and not the last
        ({8: 95, 7: 101}, 100.0, 8),  # never beyond what makes it worth its place
        ({8: 101}, 100.0, None),
        ({2: 50, 1: 60}, 100.0, 1),
    ],
)
def test_as_few_components_are_active_as_make_the_description_little_longer(
    lengths: dict[int, int], limit: float, fewest: int | None
) -> None:
    assert fewest_active(((k, float(bits)) for k, bits in lengths.items()), limit=limit) == fewest


def test_no_more_is_trained_once_a_dictionary_is_too_long() -> None:
    measured = iter([(3, 10.0), (2, 20.0), (1, 5.0)])
    assert fewest_active(measured, limit=100.0) == 3
    assert list(measured) == [(1, 5.0)]


def test_without_components_the_bits_are_the_entropy_of_the_gaussian() -> None:
    vectors = gaussian(24_000, 5)
    step = 1e-3
    bits = description_bits(
        Unexplained("s"), vectors[4_000:], vectors[:4_000], step=step, inputs=24_000
    )
    covariance = np.cov(vectors.T.numpy())
    entropy = stats.multivariate_normal(cov=covariance).entropy() / math.log(2)
    assert bits == pytest.approx(entropy - 5 * math.log2(step), abs=0.1)


def test_components_cost_coins_bell_curves_and_parameters() -> None:
    """One component that is active half the time, its strength Gaussian, and a Gaussian rest."""
    generator = torch.Generator().manual_seed(2)
    half = 12_000
    active = torch.rand(2 * half, generator=generator) < 0.5
    strength = 10 + torch.randn(2 * half, generator=generator)
    rest = 0.1 * torch.randn(2 * half, generator=generator)
    vectors = torch.stack([torch.where(active, strength, -5.0), rest], dim=1)
    direction = torch.tensor([[1.0, 0.0]])
    # Reads strength plus 5, so that a silent component is read as zero.
    dictionary = topk_dictionary(
        site="s",
        pooling="auto",
        k=1,
        encoder=direction.T,
        bias=torch.zeros(1),
        decoder=direction,
        centre=torch.tensor([-5.0, 0]),
        scale=torch.ones(()),
    )
    step, inputs = 1e-2, 1_000
    bits = description_bits(dictionary, vectors[:half], vectors[half:], step=step, inputs=inputs)
    cells = -math.log2(step)
    coin = 1.0
    bell = stats.norm().entropy() / math.log(2) + cells
    # The first coordinate is all explained: its residual has no spread but the grid's own.
    floor = math.log2(math.sqrt(2 * math.pi))
    left = stats.norm(scale=0.1).entropy() / math.log(2) + cells
    parameters = (2 + 3) * 0.5 * math.log2(inputs) / inputs
    share = float(active[half:].double().mean())
    expected = coin + bell * share + floor + left + parameters
    assert bits == pytest.approx(expected, abs=0.05)
