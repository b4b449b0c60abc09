"""Drawings of reports: amounts become lengths, and what cannot be drawn spoils nothing."""

import math

import pytest

from mad.report.drawing import Rate, bars, columns, curves, intervals, shortened, traces


def test_bars_are_as_long_as_their_amounts_and_the_infinite_fills_its_row() -> None:
    drawn = bars("", [("a", 4.0), ("b", 1.0), ("c", math.inf), ("d", math.nan), ("e", -2.0)]).bars
    assert [bar.name for bar in drawn] == ["a", "b", "c", "e"]
    full = drawn[0].width
    assert [bar.width / full for bar in drawn] == pytest.approx([1, 0.25, 1, 0])


def test_figures_of_bars_are_short_and_never_rounded_to_nothing() -> None:
    amounts = [1234.0, 12.345, 0.1, 0.0123, 0.0]
    drawn = bars("", [("a", amount) for amount in amounts]).bars
    assert [bar.value for bar in drawn] == ["1,234", "12.3", "0.1", "0.012", "0"]


def test_nothing_to_draw_is_an_empty_drawing() -> None:
    assert bars("", []).bars == ()
    assert bars("", [("a", 0.0)]).bars[0].width == 0
    assert columns("", []).bars == ()
    assert intervals("", []).spans == ()


def test_columns_stand_on_the_floor() -> None:
    drawn = columns("", [("monday", 2), ("tuesday", 0), ("wednesday", 1)])
    assert {bar.y + bar.height for bar in drawn.bars} == {drawn.floor}
    assert drawn.bars[0].height == 2 * drawn.bars[2].height
    assert drawn.most == "2"


def test_a_promise_that_is_kept_lies_on_the_diagonal() -> None:
    inputs = 1024
    kept = [-math.log2(1 - place / inputs) for place in range(inputs)]
    (line,) = (drawn := curves("", {"surprise": kept})).lines
    points = [tuple(map(float, point.split(","))) for point in line.points.split()]
    width, depth = 460 - drawn.left, drawn.floor - drawn.top
    for x, y in points:
        assert (x - drawn.left) / width == pytest.approx((y - drawn.top) / depth, abs=0.002)


def test_traces_are_shares_by_amounts_on_a_log_axis() -> None:
    drawn = traces("", {"a": [(1.0, 1.0), (10.0, 0.5), (100.0, 0.0)], "b": [(10.0, 0.25)]})
    first, second = (
        [tuple(map(float, point.split(","))) for point in line.points.split()]
        for line in drawn.lines
    )
    assert [x for x, _ in first] == [drawn.left, (drawn.left + 460) / 2, 460]
    assert [y for _, y in first] == [drawn.top, (drawn.top + drawn.floor) / 2, drawn.floor]
    assert second[0][0] == first[1][0]
    assert [tick.text for tick in drawn.across] == ["1", "2", "5", "10", "20", "50", "100"]
    assert not drawn.is_promised
    assert traces("", {}).lines == ()


def test_a_rate_observed_as_promised_is_on_its_mark() -> None:
    rates = [Rate(0.01, 0.01, 0.005, 0.02, 0.0, 0.02), Rate(0.1, 0.0, 0.0, 0.03, 0.05, 0.15)]
    first, second = intervals("", rates).spans
    assert first.observed == first.nominal
    assert first.low < first.nominal < first.high
    # No alarms at all are at the axis' end, not nowhere.
    assert second.observed == second.low < second.high < second.nominal


def test_a_long_name_keeps_both_ends() -> None:
    assert shortened("layer") == "layer"
    long = shortened("transformer.blocks.11.attention.output residual 17")
    assert len(long) == 21
    assert long.startswith("transforme")
    assert long.endswith("sidual 17")
