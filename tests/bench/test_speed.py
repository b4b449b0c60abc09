"""The speed benchmark: its arithmetic, and that it times what it says."""

import io
from itertools import count

import torch
from rich.console import Console

from mad.bench.speed import Cost, Size, build, measure, show


def test_the_ratios_compare_scoring_with_the_bare_model_and_codes_with_components() -> None:
    cost = Cost(batch=1, bare=2.0, forward=3.0, components=4.0, codes=1.0)
    assert cost.slowdown == 4.0
    assert cost.codes_share == 0.25


def test_every_stage_is_timed_by_the_clock_it_is_given() -> None:
    scorer = build(Size(width=16, layers=2, components=64, active=4))
    ticks = count()
    cost = measure(scorer, torch.randn(3, 16), rounds=2, clock=lambda: float(next(ticks)))
    assert cost == Cost(3, bare=1e3, forward=1e3, components=1e3, codes=1e3)
    printed = io.StringIO()
    show([cost], Console(file=printed, width=120))
    assert "3.0x" in printed.getvalue()
