"""The promise at size: 200,000 trusted inputs over gRPC alarm as often as Prometheus may see.

One reference promises a rate only on average over references: given this one, the rate at ``alpha``
is Beta(k, n + 1 - k), ``k = floor(alpha (n + 1))``, and the alarms among ``N`` inputs are
beta-binomial. A binomial interval alone would need a reference far larger than the stream.
"""

import math
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import betabinom

from mad.client import Client, request, traffic_options
from tests.cli.conftest import SETTINGS, Mad, mad, own_logging, write_deployment
from tests.cli.test_serve import serving
from tests.deploy.test_queries import answer, prometheus
from tests.worlds import ordinary

__all__ = ["mad", "own_logging"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        shutil.which("prometheus") is None, reason="prometheus is missing: apt install prometheus"
    ),
]
TRUSTED = 10_000
SHARE = 0.6
INPUTS = 200_000
BATCH = 500
ALPHAS = (0.001, 0.005, 0.01, 0.05, 0.1)


def test_the_rate_at_each_alpha_is_the_promised_one_as_prometheus_reads_it(
    mad: Mad, tmp_path: Path
) -> None:
    config = write_deployment(tmp_path, f"{SETTINGS}reference_share = {SHARE}\n")
    np.savez(tmp_path / "trusted.npz", x=ordinary(TRUSTED, seed=1).numpy())
    assert mad("fit", config).code == 0
    options = traffic_options("trusted")
    with serving(config) as served, prometheus(tmp_path, f"127.0.0.1:{served.http_port}") as server:
        with Client(served.address, timeout_s=60) as client:
            for seed in range(INPUTS // BATCH):
                inputs = {"x": ordinary(BATCH, seed=1000 + seed)}
                client.score(request(inputs, options=options))
        count = 'mad_p_value_count{traffic="trusted"}'
        while number(server, count) < INPUTS:
            time.sleep(0.5)
        alarms = {
            alpha: number(server, f'mad_p_value_bucket{{traffic="trusted",le="{alpha:g}"}}')
            for alpha in ALPHAS
        }
        wealth = number(server, "mad_calibration_wealth_log10")
        gap = number(server, "mad_calibration_ks_ratio")
    reference = int(TRUSTED * SHARE)
    for alpha, found in alarms.items():
        rank = math.floor(alpha * (reference + 1))
        low, high = betabinom.interval(0.999, INPUTS, rank, reference + 1 - rank)
        assert low <= found <= high, f"{found} at {alpha}"
    assert wealth < 3
    # Chance leaves two samples of 6,000 and at most 10,000 a gap of 0.032 once in a thousand times.
    assert 0 < gap < 0.04


def number(server: str, query: str) -> float:
    """Ask Prometheus for one number; 0 while it has none."""
    found = answer(server, "query", query=query)
    return float(found[0]["value"][1]) if found else 0.0
