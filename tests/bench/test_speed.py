"""The speed benchmark: its arithmetic, and that it times what it says."""

import io
from itertools import count

import torch
from rich.console import Console

from mad.bench.set_speed import CONTEXTS, SetCost, fit_set_codes, measure_sets, show_sets
from mad.bench.speed import Cost, Size, build, measure, show, untrained


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


def test_the_shares_of_set_codes_are_of_the_dictionarys_time() -> None:
    cost = SetCost(batch=1, encode=4.0, clusters=0.5, bayes=1.0)
    assert cost.clusters_share == 0.125
    assert cost.bayes_share == 0.25


def test_encoding_and_each_set_code_are_timed_by_the_clock_they_are_given() -> None:
    dictionary = untrained("site", Size(width=16, components=64, active=4))
    codes = fit_set_codes(dictionary, clusters=3)
    ticks = (float(2**number) for number in count())
    cost = measure_sets(dictionary, codes, torch.randn(3, 16), rounds=1, clock=lambda: next(ticks))
    # Four readings a round: the second round has seconds 16, 32, 64 and 128.
    assert cost == SetCost(3, encode=16e3, clusters=32e3, bayes=64e3)
    printed = io.StringIO()
    show_sets([cost], Console(file=printed, width=120))
    assert "2.0000" in printed.getvalue()


def test_the_clusters_that_are_timed_are_as_many_as_a_code_may_have() -> None:
    codes = fit_set_codes(untrained("site", Size(width=16, components=64, active=4)))
    assert codes.clusters.weight.shape == (CONTEXTS + 1, 64)
