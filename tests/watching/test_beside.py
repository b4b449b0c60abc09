"""From planted anomalies to the webhook, with the shipped settings and real programs."""

import re
from urllib.request import urlopen

import prometheus_client.parser
import pytest

from tests.watching.conftest import Watching, wait_for
from tests.watching.programs import needs, rules

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    needs("prometheus", "prometheus"),
    needs("prometheus-alertmanager", "prometheus-alertmanager"),
]

TARGET = 'up{job="mad"}'


def test_a_burst_is_at_the_webhook_within_two_scrapes_and_five_seconds(
    watching: Watching,
) -> None:
    with watching() as watched:
        watched.send("ordinary", traffic="live", count=50, seed=11)
        watched.until('sum(mad_inputs_scored_total{traffic="live"}) >= 50')
        # The five minutes of a rate begin at its second scrape.
        watched.until(f"count_over_time({TARGET}[1h]) >= 3")
        watched.send("strange", traffic="live", count=600, seed=12)
        ((_, before),) = watched.beside.query(f"count_over_time({TARGET}[1h])")
        told = watched.inbox.wait_for("MadAnomalyBurst", timeout_s=60)
        ((_, after),) = watched.beside.query(f"count_over_time({TARGET}[1h])")
        assert told is not None
        assert (told.route, told.status) == ("page", "firing")
        assert told.labels["model"] == "tiny"
        assert told.annotations["runbook_url"].endswith("/runbooks/MadAnomalyBurst.md")
        assert "runbooks" not in told.labels
        # Scrapes and not seconds are counted, a second apart: a busy machine delays both.
        assert after - before <= 2 + 5


def test_lost_calibration_is_told_of_in_place_of_the_burst_that_it_explains(
    watching: Watching,
) -> None:
    with watching() as watched:
        watched.send("ordinary", traffic="live", count=50, seed=21)
        watched.until(f"count_over_time({TARGET}[1h]) >= 3")
        watched.send("strange", traffic="trusted", count=200, seed=22)
        assert watched.inbox.wait_for("MadCalibrationLost", timeout_s=60) is not None
        watched.send("strange", traffic="live", count=600, seed=23)
        watched.until('ALERTS{alertname="MadAnomalyBurst",alertstate="firing"}')
        wait_for(lambda: "MadAnomalyBurst" in watched.beside.states())
        states = watched.beside.states()
        assert states["MadAnomalyBurst"] == "suppressed"
        assert states["MadCalibrationLost"] == "active"
        # Inputs rarer than one in a million page all the same, and later than a burst would.
        assert watched.inbox.wait_for("MadStreamUnlikeTrustedData", timeout_s=60) is not None
        assert "MadAnomalyBurst" not in {one.name for one in watched.inbox.notifications}


def test_every_series_that_a_rule_names_is_exported_and_every_rule_is_evaluated(
    watching: Watching,
) -> None:
    with watching() as watched:
        for traffic in ("live", "trusted", "canary"):
            watched.send("ordinary", traffic=traffic, count=50, seed=31)
        with urlopen(f"{watched.server.url}/metrics", timeout=20) as page:  # noqa: S310  # the server's own
            families = prometheus_client.parser.text_string_to_metric_families(page.read().decode())
            exported = {sample.name for family in families for sample in family.samples}
        recorded = {rule.name for rule in rules()}
        named = {
            name
            for rule in rules()
            for name in re.findall(r"(?<![\w:\"])(?:mad|grpc_server)_\w+(?![\w:])", rule.expression)
        }
        assert named <= exported
        used = {
            name for rule in rules() for name in re.findall(r"[a-z_]+:\w+:\w+", rule.expression)
        }
        assert used <= recorded
        watched.until(f"count_over_time({TARGET}[1h]) >= 3")
        assert watched.beside.troubles() == []
