"""Inputs set aside teach a fit nothing, and the false-alarm promise holds all the same."""

from dataclasses import replace

import pytest
import torch

from mad.calibration.conformal import p_values
from mad.errors import ConfigError
from mad.fit import Split, fit, split
from tests.worlds import CREATED, PLAN, quiet, tiny_world

TRIALS = 1500
INPUTS = 400
LEVEL = 0.05


def observed_rate(*, is_kept: bool) -> float:
    """Return how often trusted inputs alarm when a twentieth of trusted data are set aside.

    Surprises are drawn at random; those set aside are the largest, as another baseline ranks them.
    """
    generator = torch.Generator().manual_seed(0)
    alarms = 0
    for trial in range(TRIALS):
        data, active, fresh = (
            torch.rand(size, generator=generator, dtype=torch.float64) for size in (INPUTS, 999, 50)
        )
        aside = (p_values(data, active.sort().values) <= LEVEL).nonzero().squeeze(1)
        rows = split(INPUTS, replace(PLAN, seed=trial)).without(aside).reference
        if not is_kept:
            rows = rows[~torch.isin(rows, aside)]
        alarms += int((p_values(fresh, data[rows].sort().values) <= LEVEL).sum())
    return alarms / (TRIALS * 50)


def test_the_promise_holds_with_inputs_set_aside() -> None:
    # Of 100 reference inputs and a fresh one, the 5 largest of 101 alarm.
    assert observed_rate(is_kept=True) == pytest.approx(5 / 101, abs=0.003)


def test_the_promise_would_break_if_the_reference_lost_them() -> None:
    # A twentieth would have been set aside, and alarms; so do 4 of 96 of the others.
    assert observed_rate(is_kept=False) == pytest.approx(0.05 + 0.95 * 4 / 96, abs=0.003)


def test_a_fit_learns_from_the_others_alone_and_ranks_among_all() -> None:
    world = tiny_world()
    rows = world_rows()
    aside = torch.cat([rows.fitting[:7], rows.weighing[:5], rows.reference[:3]])
    baseline = fit(
        world.model,
        world.decomposition,
        world.trusted,
        PLAN,
        created=CREATED,
        progress=quiet,
        set_aside=aside,
    )
    manifest = baseline.manifest
    assert (manifest.fit_inputs, manifest.weighing_inputs) == (353, 85)
    assert manifest.reference_inputs == 150


def test_setting_nearly_everything_aside_is_refused() -> None:
    with pytest.raises(ConfigError, match="19 are left to weigh parts and 360 to fit codes"):
        world_rows().without(world_rows().weighing[19:])


def world_rows() -> Split:
    return split(600, PLAN)
