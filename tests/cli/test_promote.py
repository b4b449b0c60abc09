"""``mad promote``, ``mad rollback`` and ``mad baselines`` on a store, and on a running server."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mad.baseline.bundle import Provenance
from mad.baseline.store import BaselineStore
from mad.client import Client
from tests.cli.conftest import Mad
from tests.cli.test_serve import serving


@pytest.fixture
def deployed(tmp_path: Path, fitted: Path) -> Path:
    """Return the settings of a deployment with an active version and a candidate like it."""
    config = shutil.copytree(fitted.parent, tmp_path / "deployed") / "mad.toml"
    config.write_text(config.read_text() + '[promotion]\ncanaries = ["strange.npz"]\n')
    store = BaselineStore(config.parent / "baselines")
    made = Provenance(principal="ada", source="week 48", inputs=600, quarantined_inputs=1)
    store.save(store.load("default"), activate=False, provenance=made)
    return config


def store_of(config: Path) -> BaselineStore:
    return BaselineStore(config.parent / "baselines")


def add_unreachable(config: Path) -> None:
    """Save a version 3 whose rate its reference cannot reach."""
    store = store_of(config)
    baseline = store.load("default")
    manifest = replace(baseline.manifest, false_alarm_rate=1e-4)
    store.save(replace(baseline, manifest=manifest), activate=False)


def test_a_version_is_examined_promoted_and_taken_back_in_the_store(
    mad: Mad, deployed: Path
) -> None:
    looked = mad("promote", "default@2", "--config", deployed, "--check")
    assert looked.code == 0
    assert "100.0% of 5 planted anomalies detected" in looked.out
    assert store_of(deployed).load("default").revision == "default@1"
    done = mad("promote", "default@2", "--config", deployed, "--expect", "default@1")
    assert (done.code, store_of(deployed).load("default").revision) == (0, "default@2")
    listed = mad("baselines", deployed)
    assert "1 of 600" in listed.out
    assert "week 48" in listed.out
    back = mad("rollback", "--config", deployed)
    assert back.out.endswith("default@1 is active again, instead of default@2\n")
    assert store_of(deployed).load("default").revision == "default@1"


def test_a_shadow_is_named_beside_the_active_one(mad: Mad, deployed: Path) -> None:
    assert mad("promote", "default@2", "--config", deployed, "--shadow").code == 0
    assert [one.aliases for one in store_of(deployed).entries()] == [("shadow",), ("active",)]
    refused = mad("baselines", deployed, "--delete", "default@2")
    assert (refused.code, "is the shadow version" in refused.err) == (1, True)


def test_a_version_that_fails_a_gate_is_told_and_left_alone(mad: Mad, deployed: Path) -> None:
    add_unreachable(deployed)
    assert mad("promote", "default@3", "--config", deployed, "--check").code == 1
    done = mad("promote", "default@3", "--config", deployed)
    assert done.code == 1
    assert "default@3 does not pass reference: 150 reference inputs reach" in done.err
    assert store_of(deployed).load("default").revision == "default@1"
    assert mad("baselines", deployed, "--delete", "default@3").code == 0
    assert mad("promote", "default@3", "--config", deployed).code == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("default@2", "--expect", "default@7"), "is default@1, not default@7"),
        (("default",), "'default' names no version"),
    ],
)
def test_what_does_not_hold_is_refused(
    mad: Mad, deployed: Path, arguments: tuple[str, ...], told: str
) -> None:
    done = mad("promote", *arguments, "--config", deployed)
    assert (done.code, told in done.err) == (1, True)


@pytest.mark.slow
def test_a_running_server_promotes_goes_back_and_follows(mad: Mad, deployed: Path) -> None:
    with serving(deployed) as served:
        assert mad("promote", "default@2", "--address", served.address, "--check").code == 0
        done = mad("promote", "default@2", "--address", served.address)
        assert done.out.endswith(
            f"default@2 is active at {served.address}; before it was default@1\n"
        )
        with Client(served.address) as client:
            assert client.versions.get("default").version == 2
            back = mad("rollback", "--address", served.address, "--expect", "default@2")
            assert back.out == "default@1 is active again, instead of default@2\n"
            client.versions.delete("default@2")
            assert [one.version for one in client.baselines().baselines] == [1]
