"""``mad alerts``: what callers wrote is shown as they wrote it."""

import shutil
from dataclasses import replace
from pathlib import Path

from mad.alerts.log import AlertLog
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
