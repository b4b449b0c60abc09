"""``mad alerts``: what callers wrote is shown as they wrote it."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

from mad.alerts.log import AlertLog
from mad.types import Explanation
from tests.cli.conftest import Mad
from tests.web.conftest import ALERT


def test_a_request_id_is_text_and_never_markup(tmp_path: Path, mad: Mad, fitted: Path) -> None:
    config = shutil.copytree(fitted.parent, tmp_path / "deployed") / "mad.toml"
    log = AlertLog.open(f"sqlite:///{config.with_name('alerts.db')}")
    log.append([replace(ALERT, request_id="[/red] [bold]camera[/bold] :smile:")])
    log.close()
    done = mad("alerts", "--config", config)
    assert done.code == 0
    assert "[/red] [bold]camera[/bold] :smile:" in done.out


def test_an_alert_shows_its_three_numbers_and_what_makes_it_rare(
    tmp_path: Path, mad: Mad, fitted: Path
) -> None:
    config = shutil.copytree(fitted.parent, tmp_path / "deployed") / "mad.toml"
    old = replace(
        ALERT.verdict, surprise_bits=math.nan, mechanism_bits=math.nan, novelty_bits=math.nan
    )
    output = replace(ALERT.explanation.charges[0], term="output", index=5)
    log = AlertLog.open(f"sqlite:///{config.with_name('alerts.db')}")
    log.append(
        [
            replace(ALERT, alert_id="old", request_id="before", verdict=old),
            replace(ALERT, alert_id="new", explanation=Explanation((output,), 0.0)),
        ]
    )
    log.close()
    printed = mad("alerts", "--config", config).out
    rows = [line for line in printed.splitlines() if line.startswith("│")]
    new, before = ([cell.strip() for cell in row.split("│")[3:-1]] for row in rows)
    shown = ["camera-12", "4", "11.3", "12.6", "0.4", "0.0004", "act1 output 5", "", "new"]
    assert new == shown
    # From when rarity was not measured.
    assert before[:6] == ["before", "4", "", "", "", "0.0004"]
