"""``mad serve --check``: a line a check, the remedy for each that failed, and an exit status."""

import shutil
import socket
import sqlite3
from pathlib import Path

import pytest
import trustme

from tests.cli.conftest import Finished, Mad
from tests.cli.test_serve import serving

PORTS = "\n[server]\ngrpc_address = '127.0.0.1:0'\nhttp_address = '127.0.0.1:0'\n"


@pytest.fixture
def deployed(tmp_path: Path, fitted: Path) -> Path:
    """Return the settings file of a copy that the test may break."""
    config = shutil.copytree(fitted.parent, tmp_path / "deployed") / "mad.toml"
    config.write_text(config.read_text() + PORTS)
    return config


def outcomes(done: Finished) -> dict[str, str]:
    """Return the outcome of each check by its name."""
    lines = [line for line in done.out.splitlines() if line]
    return {line[10:].partition(":")[0]: line[:10].strip() for line in lines}


def line(done: Finished, what: str) -> str:
    """Return the line of one check."""
    (found,) = [one for one in done.out.splitlines() if one[10:].startswith(f"{what}:")]
    return found


EVERYTHING = (
    "settings",
    "model",
    "dictionaries",
    "baseline",
    "fingerprints",
    "warm-up",
    "gates",
    "renderer",
    "alert log",
    "audit log",
    "baseline store",
    "stream checkpoint",
    "fit directory",
    "gRPC address",
    "HTTP address",
    "exposure",
    "TLS",
    "tokens",
    "tracing",
    "upstream",
)


def test_a_sound_deployment_passes_every_check(mad: Mad, deployed: Path) -> None:
    done = mad("serve", deployed, "--check")
    assert outcomes(done) == dict.fromkeys(EVERYTHING, "ok")
    assert done.code == 0
    assert "default@1" in line(done, "baseline")
    with sqlite3.connect(deployed.with_name("alerts.db")) as database:
        assert database.execute("SELECT count(*) FROM mad_alerts").fetchone() == (0,)


def test_settings_that_cannot_be_read_are_told_in_one_sentence(mad: Mad, deployed: Path) -> None:
    deployed.write_text(deployed.read_text() + "max_bach = 3\n")
    done = mad("serve", deployed, "--check")
    assert done.code == 2
    assert "server.max_bach is no setting; did you mean max_batch?" in done.err


def test_everything_is_tried_however_much_fails(mad: Mad, deployed: Path) -> None:
    deployed.with_name("model.safetensors").write_bytes(b"not weights")
    shutil.rmtree(deployed.parent / "baselines")
    deployed.with_name("stream.json").write_text("{")
    done = mad("serve", deployed, "--check")
    assert done.code == 2
    failed = {"model", "baseline", "stream checkpoint"}
    left_out = {"dictionaries", "fingerprints", "warm-up", "gates"}
    assert outcomes(done) == {
        **dict.fromkeys(EVERYTHING, "ok"),
        **dict.fromkeys(failed, "failed"),
        **dict.fromkeys(left_out, "not tried"),
    }
    assert "model.safetensors" in line(done, "model")
    assert "it needs the model" in line(done, "dictionaries")
    assert "no active baseline 'default'" in line(done, "baseline")
    assert "remove it to begin a new stream" in line(done, "stream checkpoint")


def test_a_factory_that_dies_hides_nothing_else(mad: Mad, deployed: Path) -> None:
    deployed.with_name("model.py").write_text("def build():\n    raise KeyError('lost')\n")
    done = mad("serve", deployed, "--check")
    assert done.code == 2
    assert "lost" in line(done, "model")
    assert outcomes(done)["alert log"] == "ok"


def test_a_model_of_other_weights_fails_by_its_fingerprint(mad: Mad, deployed: Path) -> None:
    deployed.with_name("model.py").write_text(
        "from tests.worlds import tiny_module\n\n\ndef build():\n    return tiny_module()\n"
    )
    from safetensors.torch import save_file  # noqa: PLC0415  # torch, where it is needed

    from tests.worlds import tiny_module  # noqa: PLC0415

    save_file(tiny_module(seed=3).state_dict(), deployed.with_name("model.safetensors"))
    done = mad("serve", deployed, "--check")
    assert done.code == 2
    assert "fitted on another model" in line(done, "fingerprints")
    assert "load the model it was fitted on, or fit again" in line(done, "fingerprints")
    assert outcomes(done)["warm-up"] == "not tried"


def test_a_model_that_cannot_run_fails_its_warm_up(mad: Mad, deployed: Path) -> None:
    deployed.with_name("model.py").write_text(
        "from tests.worlds import tiny_module\n\n\n"
        "def die(module, inputs):\n    raise RuntimeError('no device')\n\n\n"
        "def build():\n"
        "    built = tiny_module()\n"
        "    built.register_forward_pre_hook(die)\n"
        "    return built\n"
    )
    done = mad("serve", deployed, "--check")
    assert done.code == 2
    assert "fails on zeros of shape {'x': (1, 8)}: no device" in line(done, "warm-up")


@pytest.mark.parametrize("setting", ["grpc_address", "http_address"])
def test_a_taken_address_is_told(mad: Mad, deployed: Path, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        text = deployed.read_text().replace(
            f"{setting} = '127.0.0.1:0'", f"{setting} = '{address}'"
        )
        deployed.write_text(text)
        done = mad("serve", deployed, "--check")
    what = "gRPC address" if setting == "grpc_address" else "HTTP address"
    assert done.code == 2
    assert f"cannot listen on {address}" in line(done, what)
    assert f"set server.{setting}" in line(done, what)


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("server.alert_log = 'sqlite:////nowhere/alerts.db'", "alert log"),
        ("security.audit_log = '/dev/null/audit.jsonl'", "audit log"),
        ("baseline.store = '/dev/null/baselines'", "baseline store"),
        ("stream.checkpoint = '/dev/null/stream.json'", "stream checkpoint"),
        ("fit.directory = '/dev/null/fits'", "fit directory"),
    ],
)
def test_a_place_that_cannot_be_written_is_told(
    mad: Mad, deployed: Path, monkeypatch: pytest.MonkeyPatch, key: str, what: str
) -> None:
    name, value = key.split(" = ")
    monkeypatch.setenv(f"MAD_{name.replace('.', '__')}".upper(), value.strip("'"))
    done = mad("serve", deployed, "--check")
    assert done.code == 2
    assert outcomes(done)[what] == "failed"
    assert "nowhere" in line(done, what) or "/dev/null" in line(done, what)


def test_an_alert_log_that_is_none_is_told(mad: Mad, deployed: Path) -> None:
    deployed.with_name("alerts.db").write_text("no database at all, but a text " * 100)
    done = mad("serve", deployed, "--check")
    assert done.code == 2
    assert "undamaged alert log" in line(done, "alert log")


@pytest.fixture
def secured(deployed: Path) -> Path:
    authority = trustme.CA()
    own = authority.issue_cert("localhost")
    own.private_key_pem.write_to_path(deployed.with_name("key.pem"))
    with deployed.with_name("chain.pem").open("wb") as file:
        for pem in own.cert_chain_pems:
            file.write(pem.bytes())
    deployed.write_text(
        deployed.read_text()
        + "\n[security]\ntls_certificate = 'chain.pem'\ntls_key = 'key.pem'\n"
        + "tokens = 'tokens.toml'\n"
    )
    deployed.with_name("tokens.toml").write_text("")
    return deployed


def test_a_key_of_another_certificate_is_told(mad: Mad, secured: Path) -> None:
    other = trustme.CA().issue_cert("localhost")
    other.private_key_pem.write_to_path(secured.with_name("key.pem"))
    done = mad("serve", secured, "--check")
    assert done.code == 2
    assert outcomes(done)["TLS"] == "failed"


def test_tokens_that_cannot_be_read_are_told(mad: Mad, secured: Path) -> None:
    secured.with_name("tokens.toml").write_text("[[principal]]\nname = 3\n")
    done = mad("serve", secured, "--check")
    assert done.code == 2
    assert outcomes(done)["tokens"] == "failed"
    assert outcomes(done)["TLS"] == "ok"


def test_an_open_address_without_tokens_is_told(mad: Mad, deployed: Path) -> None:
    done = mad("serve", deployed, "--check", "--grpc-address", "0.0.0.0:0")
    assert done.code == 2
    assert "can be reached from other machines" in line(done, "exposure")


def test_an_upstream_server_that_does_not_answer_is_told(
    mad: Mad, deployed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAD_SERVER__MODE", "proxy")
    monkeypatch.setenv("MAD_UPSTREAM__ADDRESS", "127.0.0.1:1")
    done = mad("serve", deployed, "--check")
    assert done.code == 2
    assert "upstream 127.0.0.1:1 says UNAVAILABLE" in line(done, "upstream")
    assert "mend upstream.address or upstream.model" in line(done, "upstream")


def test_an_upstream_server_is_asked_for_the_model(
    mad: Mad, deployed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = shutil.copytree(deployed.parent, deployed.parent.with_name("own")) / "mad.toml"
    with serving(deployed) as upstream:
        monkeypatch.setenv("MAD_SERVER__MODE", "proxy")
        monkeypatch.setenv("MAD_UPSTREAM__ADDRESS", upstream.address)
        done = mad("serve", own, "--check")
        assert outcomes(done)["upstream"] == "ok"
        monkeypatch.setenv("MAD_UPSTREAM__MODEL", "other")
        done = mad("serve", own, "--check")
        assert "says NOT_FOUND" in line(done, "upstream") or "not ready" in line(done, "upstream")
        assert done.code == 2


def test_canaries_that_cannot_be_read_are_told(
    mad: Mad, deployed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAD_PROMOTION__CANARIES", '["lost.npz"]')
    done = mad("serve", deployed, "--check")
    assert done.code == 2
    assert "lost.npz" in line(done, "gates")
