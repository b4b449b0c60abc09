"""Steps are timed beside others', and a reference that is not there is said to be missing."""

import sys
from dataclasses import replace

import pytest

from mad.bench.decomposition_settings import tms
from mad.bench.decomposition_speed import Cost, Reference, cost
from mad.bench.truth.tms import TmsTask
from mad.components.parameters.training.compiled import can_compile
from mad.errors import ConfigError


def test_the_least_of_the_others_is_held_against_ours() -> None:
    found = Cost("any", {"compiled": 2.0, "eager": 3.0, "half": 12.0, "single": 9.0})
    assert found.ratio == 4.5


def test_a_reference_that_does_not_run_is_said_so() -> None:
    with pytest.raises(ConfigError, match="the reference's process ended"):
        Reference(sys.executable, "tms_5_2", "fp32")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not can_compile(), reason="there is no C++ compiler")
def test_every_contender_takes_time() -> None:
    setting = tms(TmsTask(3, 2, 64), 4)
    small = replace(setting, plan=replace(setting.plan, batch_size=64, warm_up_steps=1))
    found = cost("small", small, steps=4)
    assert list(found.by) == ["compiled", "eager", "plain"]
    assert min(found.by.values()) > 0
