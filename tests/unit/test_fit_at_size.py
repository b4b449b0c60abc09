"""Fits of much data: shards, samples that are merged late, and statistics in any order."""

from dataclasses import fields, is_dataclass, replace
from functools import reduce
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from hypothesis import given, settings, strategies as st
from safetensors.torch import save_file
from torch import Tensor

from mad.arrays import open_dataset
from mad.codes.accounting import Books
from mad.codes.statistics import Kept
from mad.fit import FitPlan, fit, split
from mad.fit.codes import fit_codes
from mad.fit.plan import MAX_WEIGHING
from mad.fit.statistics import Growing, Sampled, SiteStatistics
from mad.types import Activity
from tests.worlds import CREATED, PLAN, ordinary, quiet, tiny_world

EVERYTHING = FitPlan(name="all", magnitudes=True, residual_by_context=True)
COMPONENTS = 6


def activity_of(count: int, *, coordinates: int, seed: int) -> Activity:
    """Draw sets, magnitudes of either sign, and residuals far from zero."""
    generator = torch.Generator().manual_seed(seed)
    active = torch.rand(count, COMPONENTS, generator=generator) < 0.4
    counts = active.sum(dim=1)
    vectors = 100 + torch.randn(count, coordinates, generator=generator)
    return Activity(
        torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(dim=0)]),
        active.nonzero()[:, 1],
        torch.randn(int(counts.sum()), generator=generator),
        vectors,
        vectors + 1,
        COMPONENTS,
    )


def chosen(activity: Activity, rows: list[int]) -> Activity:
    parts = [activity.row(row) for row in rows]
    return Activity(
        torch.tensor([0, *(len(part.components) for part in parts)]).cumsum(dim=0),
        torch.cat([part.components for part in parts]),
        torch.cat([part.magnitudes for part in parts]),
        activity.residual[rows],
        activity.activation[rows],
        COMPONENTS,
    )


def statistics_of(activity: Activity, rows: list[int], *, every: int = 1) -> SiteStatistics:
    """Gather some rows as one batch, keeping those that ``every`` divides."""
    kept = torch.tensor([row % every == 0 for row in rows])
    sampled = Sampled(torch.tensor(rows), kept, kept)
    context = torch.tensor(rows) % 3
    own = chosen(activity, rows)
    return SiteStatistics.of(own, context, sampled, EVERYTHING, keeps_neighbours=True)


def assert_same(one: object, other: object, *, rounding: float) -> None:
    """Compare field by field; sums of floats may differ by rounding, and nothing else."""
    assert type(one) is type(other)
    if isinstance(one, Tensor):
        assert isinstance(other, Tensor)
        if one.is_floating_point():
            torch.testing.assert_close(one, other, rtol=rounding, atol=rounding)
        else:
            assert torch.equal(one, other)
    elif is_dataclass(one):
        exact = isinstance(one, Kept)
        for field in fields(one):
            pair = (getattr(one, field.name), getattr(other, field.name))
            assert_same(*pair, rounding=0.0 if exact else rounding)
    else:
        assert one == other


def dealt(count: int, shards: int, random: Random) -> list[list[int]]:
    """Deal rows to shards, each ascending and none empty, and shuffle the shards."""
    owner = [*range(shards), *(random.randrange(shards) for _ in range(count - shards))]
    random.shuffle(owner)
    parts = [[row for row in range(count) if owner[row] == shard] for shard in range(shards)]
    random.shuffle(parts)
    return parts


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(0, 1000), st.randoms(use_true_random=False))
def test_statistics_of_shards_merge_in_any_order(shards: int, seed: int, random: Random) -> None:
    activity = activity_of(30, coordinates=3, seed=seed)
    parts = [statistics_of(activity, rows) for rows in dealt(30, shards, random)]
    while len(parts) > 1:
        random.shuffle(parts)
        parts.append(parts.pop().merge(parts.pop()))
    assert_same(parts[0], statistics_of(activity, list(range(30))), rounding=1e-9)


def test_statistics_of_wide_sites_merge_in_any_order() -> None:
    activity = activity_of(12, coordinates=4_100, seed=0)
    whole = statistics_of(activity, list(range(12)))
    assert type(whole.moments).__name__ == "WideMoments"
    for seed in range(3):
        parts = [statistics_of(activity, rows) for rows in dealt(12, 4, Random(seed))]
        assert_same(reduce(SiteStatistics.merge, parts), whole, rounding=1e-7)


def test_shards_in_any_order_give_the_same_codes() -> None:
    activity, context = activity_of(400, coordinates=5, seed=1), torch.arange(400) % 3
    whole = fit_codes({"a": statistics_of(activity, list(range(400)))}, EVERYTHING)
    expected = Books.of(whole).ledger({"a": activity}, context)
    assert len(expected.keys) == 5
    for seed in range(2):
        parts = [statistics_of(activity, rows) for rows in dealt(400, 5, Random(seed))]
        merged = fit_codes({"a": reduce(SiteStatistics.merge, parts)}, EVERYTHING)
        found = Books.of(merged).ledger({"a": activity}, context)
        torch.testing.assert_close(found.bits, expected.bits, rtol=1e-8, atol=1e-8)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 4))
def test_samples_that_wait_are_those_merged_one_by_one(sizes: list[int], every: int) -> None:
    activity = activity_of(sum(sizes), coordinates=3, seed=2)
    batches = [part.tolist() for part in torch.arange(sum(sizes)).split(sizes)]
    parts = [statistics_of(activity, rows, every=every) for rows in batches]
    growing = reduce(Growing.add, parts[1:], Growing.of(parts[0]))
    assert_same(growing.statistics, reduce(SiteStatistics.merge, parts), rounding=0.0)


def test_few_samples_wait_and_each_is_more_than_twice_the_next() -> None:
    activity = activity_of(300, coordinates=3, seed=2)
    growing = Growing.of(statistics_of(activity, [0], every=2))
    for row in range(1, 300):
        growing = growing.add(statistics_of(activity, [row], every=2))
        sizes = [len(sample) for sample in growing.sets]
        assert sum(sizes) == row // 2 + 1
        assert all(one > 2 * two for one, two in pairwise(sizes))
        assert len(growing.kept) == len(sizes) <= 8


def test_a_site_without_a_neighbourhood_stays_without() -> None:
    first = replace(statistics_of(activity_of(4, coordinates=3, seed=0), [0, 1]), kept=None)
    assert Growing.of(first).add(first).statistics.kept is None


def write_shards(folder: Path, x: Tensor) -> tuple[list[Path], Path]:
    """Write the same inputs as three files of three formats, and as one."""
    first, second, third = x.split([100, 250, 250])
    np.savez(folder / "a.npz", x=first.numpy())
    save_file({"x": second.contiguous()}, folder / "b.safetensors")
    column = pa.FixedSizeListArray.from_arrays(pa.array(third.flatten().numpy()), x.shape[1])
    pq.write_table(pa.table({"x": column}), folder / "c.parquet", row_group_size=64)
    save_file({"x": x}, folder / "whole.safetensors")
    return [folder / name for name in ("a.npz", "b.safetensors", "c.parquet")], (
        folder / "whole.safetensors"
    )


def test_shards_of_three_formats_give_the_baseline_of_one_file(tmp_path: Path) -> None:
    world = tiny_world(sites=("3",))
    shards, whole = write_shards(tmp_path, ordinary(600, seed=1))
    one, other = (
        fit(
            world.model,
            world.decomposition,
            open_dataset(paths),
            PLAN,
            created=CREATED,
            progress=quiet,
        )
        for paths in (shards, [whole])
    )
    assert one.manifest == other.manifest == world.baseline.manifest
    assert torch.equal(one.references, other.references)
    assert torch.equal(one.references, world.baseline.references)


def test_no_more_rows_weigh_parts_than_tell_anything() -> None:
    count = int(MAX_WEIGHING / PLAN.weighing_share) + 1_000
    parts = split(count, PLAN)
    assert len(parts.weighing) == MAX_WEIGHING
    assert len(parts.reference) == count // 4
    everything = torch.cat([parts.fitting, parts.weighing, parts.reference])
    assert torch.equal(everything.sort().values, torch.arange(count))
