"""Figures of attribution-based decompositions: literal likeness, and a short run that resumes."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mad.bench import attribution
from mad.bench.attribution import PLAN, likeness, run
from mad.bench.truth.tms import Tms

PENTAGON = torch.tensor(
    [[math.cos(2 * math.pi * one / 5), math.sin(2 * math.pi * one / 5)] for one in range(5)]
)


def test_components_of_one_feature_each_are_as_like_as_can_be() -> None:
    """At nine tenths of the length, lengths are what is missing; one for two is seen as one."""
    pieces = torch.diag_embed(torch.ones(5)) @ (0.9 * PENTAGON)
    mmcs, ml2r, found = likeness(
        torch.stack([torch.diag(row) @ pieces for row in torch.eye(5)]), PENTAGON
    )
    assert (mmcs, ml2r) == pytest.approx((1.0, 0.9))
    assert found == 5
    merged = torch.stack([PENTAGON, torch.zeros(5, 2)])
    assert likeness(merged, PENTAGON)[2] == 1


def test_a_run_that_was_stopped_goes_on_to_the_same_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attribution, "KEPT_EVERY", 2)
    model = Tms(PENTAGON.T.contiguous(), torch.zeros(5))
    plan = replace(PLAN, steps=4, batch_size=64)
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    assert list(run(model, plan, whole)) == [2, 4]
    stopped = run(model, plan, parts)
    assert next(stopped) == 2
    stopped.close()
    assert list(run(model, plan, parts)) == [4]
    first, second = (json.loads(one.with_suffix(".json").read_text()) for one in (whole, parts))
    first.pop("cpu_seconds")
    second.pop("cpu_seconds")
    assert first == second
