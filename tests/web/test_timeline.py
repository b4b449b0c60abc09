"""What the page remembers, and how the last hour is drawn."""

from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry

from mad.metrics import Metrics
from mad.web import calibrated, figures, timeline
from mad.web.figures import Counts, Tally
from mad.web.history import KEPT, History, Moment
from tests.web.conftest import MANIFEST, NOW, verdict

# Of 2 ** 16 inputs, half are within one bit, half of the rest within two, and so on.
HALVED = Counts(
    tuple(float(bits) for bits in range(17)), (0, *(2 ** (15 - bit) for bit in range(16)), 1)
)


def moments(*tallies: Tally, step_s: float = 5.0) -> list[Moment]:
    return [
        Moment(NOW + timedelta(seconds=step_s * place), tally)
        for place, tally in enumerate(tallies)
    ]


def test_traffic_is_what_was_scored_by_the_second() -> None:
    drawn = timeline.traffic(moments(Tally(0, 0, 0), Tally(100, 90, 0), Tally(150, 120, 0)))
    assert [column.title for column in drawn.columns] == [
        "12:30:00: 20 inputs a second",
        "12:30:05: 10 inputs a second",
    ]
    first, second = drawn.columns
    assert first.height == pytest.approx(2 * second.height)
    assert first.height == pytest.approx(drawn.floor - drawn.top)
    assert drawn.levels[-1].text == "20"


def test_alarms_are_a_share_of_live_inputs_beside_the_promise() -> None:
    seen = moments(Tally(0, 0, 0), Tally(200, 100, 1), Tally(400, 200, 6), Tally(500, 200, 6))
    drawn = timeline.alarms(seen, nominal=0.01)
    assert [column.title for column in drawn.columns] == [
        "12:30:00: 1 of 100 live inputs alarm",
        "12:30:05: 5 of 100 live inputs alarm",
        "12:30:10: 0 of 0 live inputs alarm",
    ]
    assert [column.is_beyond for column in drawn.columns] == [False, True, False]
    assert drawn.line is not None
    # The axis ends at 5 %.
    assert drawn.line.at == pytest.approx(drawn.floor - (drawn.floor - drawn.top) / 5)


def test_a_whole_hour_has_few_columns_that_account_for_every_input() -> None:
    seen = moments(*(Tally(7 * place, 0, 0) for place in range(KEPT + 1)))
    drawn = timeline.traffic(seen)
    assert 50 <= len(drawn.columns) <= 62
    assert {column.title.split(": ")[1] for column in drawn.columns} == {"1.4 inputs a second"}


def test_columns_of_an_hour_do_not_move_when_a_step_is_forgotten() -> None:
    seen = moments(*(Tally(place * place, 0, 0) for place in range(KEPT + 2)))
    before, after = timeline.traffic(seen[:-1]), timeline.traffic(seen[1:])
    inner = {column.title for column in before.columns[1:-1]}
    assert inner <= {column.title for column in after.columns}


def test_nothing_remembered_is_no_column() -> None:
    assert timeline.traffic([]).columns == ()
    assert timeline.alarms(moments(Tally(0, 0, 0)), nominal=0.01).columns == ()


def test_memory_is_bounded_and_holds_what_was_counted() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, model="demo", false_alarm_rates=(0.01,))
    metrics.baseline_loaded(MANIFEST, digest="c0ffee")
    history = History(registry, lambda: NOW)
    history.note()
    metrics.scored("default", "live", [verdict(0.005), verdict(0.5)])
    metrics.scored("default", "trusted", [verdict(0.005)])
    for _ in range(KEPT + 5):
        history.note()
    assert len(history.moments) == KEPT + 1
    assert history.moments[-1] == Moment(NOW, Tally(inputs=3, live=2, live_alarms=1))


def test_ordinary_inputs_lie_on_the_diagonal_of_the_calibration_plot() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, model="demo", false_alarm_rates=(0.01,))
    metrics.baseline_loaded(MANIFEST, digest="c0ffee")
    metrics.scored("default", "live", [verdict((rank + 1) / 1000) for rank in range(1000)])
    (live,) = figures.read(registry).calibrations
    drawn = calibrated.calibration_plot(live)
    seen = [dot for dot in drawn.dots if dot.y is not None]
    assert [dot.title for dot in seen][:2] == [
        "p at most 0.001: 1 of 1,000 inputs",
        "p at most 0.002: 2 of 1,000 inputs",
    ]
    for dot in seen:
        across = dot.x / drawn.width
        assert drawn.floor - (drawn.floor - drawn.top) * across == pytest.approx(dot.y)
        assert dot.y is not None
        assert dot.high_y <= dot.y <= dot.low_y
    assert [dot.is_alarm for dot in seen[:4]] == [True, True, True, True]
    assert not seen[4].is_alarm
    # Below 1 in 1,000 nothing was seen, and a thousand inputs cannot tell.
    assert [dot.y for dot in drawn.dots if dot.title.startswith("p at most 0.0001:")] == [None]


def test_surprises_as_promised_reach_their_marks_exactly() -> None:
    drawn = calibrated.surprise_chart(HALVED, threshold_bits=7.0)
    assert [bar.y for bar in drawn.bars] == pytest.approx([bar.expected_y for bar in drawn.bars])
    assert [bar.is_alarm for bar in drawn.bars] == [False] * 7 + [True] * 8
    assert drawn.mark is not None
    assert drawn.mark.text == "alert above 7.0"
    assert drawn.bars[0].title == "0 to 1 bits: 50.000% of inputs, 50.000% promised"
