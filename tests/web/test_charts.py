"""Where things are drawn is arithmetic that can be checked by hand."""

import math
from dataclasses import replace

import pytest

from mad.types import MEASURES, Alert
from mad.web import charts
from mad.web.figures import Counts
from tests.web.conftest import ALERT

BITS = tuple(float(bits) for bits in range(15))
# Of 2 ** 14 inputs, half are within one bit, half of the rest within two, and so on.
PROMISED = Counts(BITS, (0, *(2 ** (13 - bit) for bit in range(14)), 1))


def points(line: charts.Line) -> list[tuple[float, float]]:
    pairs = (pair.split(",") for pair in line.points.split())
    return [(float(x), float(y)) for x, y in pairs]


def placed(mechanism: float, novelty: float) -> Alert:
    return replace(
        ALERT,
        verdict=replace(ALERT.verdict, mechanism_bits=mechanism, novelty_bits=novelty),
    )


def test_inputs_as_rare_as_promised_are_drawn_from_corner_to_corner() -> None:
    drawn = charts.rarity_chart({"novelty": PROMISED}, threshold_bits=None)
    (line,) = drawn.lines
    assert points(line) == [
        pytest.approx(
            (drawn.width * bits / 14, drawn.top + (drawn.floor - drawn.top) * bits / 14), abs=0.06
        )
        for bits in BITS
    ]


def test_a_line_ends_where_no_input_is_above() -> None:
    drawn = charts.rarity_chart(
        {"mechanism": Counts((0.0, 1.0, 2.0, 3.0), (0, 5, 5, 0, 0))}, threshold_bits=None
    )
    (line,) = drawn.lines
    assert [x for x, _ in points(line)] == pytest.approx([0, drawn.width / 14], abs=0.06)


def test_no_inputs_are_no_line() -> None:
    counts = Counts(BITS, (0,) * 16)
    drawn = charts.rarity_chart(dict.fromkeys(MEASURES, counts), threshold_bits=None)
    assert [(line.measure, line.points) for line in drawn.lines] == [
        (measure, "") for measure in MEASURES
    ]


@pytest.mark.parametrize(("threshold", "is_marked"), [(7.0, True), (14.5, False), (-1.0, False)])
def test_the_threshold_is_marked_where_the_axis_reaches(
    threshold: float, *, is_marked: bool
) -> None:
    drawn = charts.rarity_chart({"surprise": PROMISED}, threshold_bits=threshold)
    assert drawn.mark == (charts.Label(drawn.width / 2, "alert above 7.0") if is_marked else None)


def test_alerts_are_placed_by_mechanism_to_the_right_and_novelty_upwards() -> None:
    drawn = charts.alert_map([placed(0.0, 0.0), placed(40.0, 3.0), placed(3.0, 1e9)])
    nothing, used_oddly, shifted = drawn.spots
    assert (nothing.x, nothing.y) == (0, drawn.side)
    assert used_oddly.x > shifted.x > nothing.x
    assert shifted.y == 0
    assert used_oddly.x == pytest.approx(drawn.side * math.log(41) / math.log(1001))


def test_what_is_infinite_lies_on_the_edge_and_what_was_not_measured_nowhere() -> None:
    infinite, unmeasured = float("inf"), float("nan")
    drawn = charts.alert_map([placed(infinite, infinite), placed(unmeasured, 1.0)])
    assert [(spot.x, spot.y) for spot in drawn.spots] == [(drawn.side, 0)]
