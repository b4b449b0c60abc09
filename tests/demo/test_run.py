"""The whole demo, as a user runs it."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

MAD = [sys.executable, "-m", "mad.cli.main"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("demo") / "run"
    run = subprocess.run(
        [*MAD, "demo", "--out", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "200"},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return folder, run.stdout


def test_the_demo_says_that_every_claim_holds(finished: tuple[Path, str]) -> None:
    _, printed = finished
    assert printed.count("│ holds │") == 8
    assert "FAILS" not in printed


def test_the_demo_shows_three_alerts_with_components(finished: tuple[Path, str]) -> None:
    _, printed = finished
    assert len(re.findall(r"^Alert \S+: a triggered", printed, re.MULTILINE)) == 3
    assert len(re.findall(r"│ +component \d+ ", printed)) == 3 * 2 * 4
    assert len(re.findall(r"│ +rare combination ", printed)) == 3 * 2


def test_the_demo_tells_what_each_measure_flags(finished: tuple[Path, str]) -> None:
    _, printed = finished
    table = printed.split("What each measure by itself would flag")[1]
    shares = {
        kind: [float(share) for share in re.findall(r"([\d.]+)%", line)]
        for kind in ("ordinary", "triggered", "shifted")
        for line in table.splitlines()
        if line.startswith(f"│ {kind}")
    }
    assert {len(row) for row in shares.values()} == {3}
    # A few in a hundred, but for the trigger, which is new to the model's trusted images.
    assert max(shares["ordinary"] + shares["shifted"]) < 5
    surprise, _, novelty = shares["triggered"]
    assert min(surprise, novelty) > 90
    assert "The trigger is mostly something new" in printed


def test_the_demo_leaves_what_it_names(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    for name in ("mad.toml", "baselines/default/1", "alerts.db", "server.log", "measures.png"):
        assert (folder / name).exists()
        assert str(folder / name) in printed
    assert (folder / "measures.png").read_bytes().startswith(b"\x89PNG")


def test_the_run_folder_can_be_served_until_ctrl_c(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    settings = folder / "mad.toml"
    settings.write_text(re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:0", settings.read_text()))
    with subprocess.Popen(
        [*MAD, "demo", "--serve", "--out", str(folder)], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        printed = iter(server.stdout.readline, "")
        url = next(line.split()[-1] for line in printed if line.startswith("HTTP on"))
        with urlopen(f"{url}/readyz", timeout=10) as answer:  # noqa: S310  # the server's own URL
            assert answer.status == 200
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=30) == 0


def test_a_folder_with_other_files_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    run = subprocess.run(
        [*MAD, "demo", "--out", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "name a new one with --out" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("amtool") is None,
    reason="on Debian: apt install prometheus prometheus-alertmanager",
)
def test_a_watched_burst_is_told_of_at_the_webhook(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    run = subprocess.run(
        [*MAD, "demo", "--watch", "--out", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "webhook, page, firing: MadAnomalyBurst\n" in run.stdout
    assert re.search(r"MadAnomalyBurst was at the webhook [\d.]+ s after", run.stdout)
    pictures = list((folder / "pictures").glob("*.png"))
    assert len(pictures) == 6 or "no pictures without" in run.stdout


def test_watching_without_prometheus_says_what_to_install(tmp_path: Path) -> None:
    run = subprocess.run(
        [*MAD, "demo", "--watch", "--out", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PATH": str(tmp_path)},
    )
    assert run.returncode == 2
    assert "apt install prometheus prometheus-alertmanager" in run.stderr
    assert not (tmp_path / "run").exists()
