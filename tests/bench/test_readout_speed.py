"""What reading active sets costs: the exact ones are read, and each part is measured."""

import io

from rich.console import Console

from mad.bench.readout_speed import Layers, drawn, measure, show


def test_thresholds_read_the_sets_of_the_networks() -> None:
    case = Layers("few", ((6, 4), (4, 6)), 12)
    cost = measure(case.name, *drawn(case), seconds=0.001)
    assert cost.agreement >= 0.998
    assert 0 < cost.active < 0.5
    assert min(cost.layers, cost.thresholds, cost.networks, cost.activity) > 0
    written = io.StringIO()
    show([cost], Console(file=written, width=110))
    assert "few" in written.getvalue()
