"""``mad serve`` beyond loopback: TLS on both ports, tokens, and certificates that change."""

import json
import os
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trustme

from mad.audit import records
from mad.service.auth.principals import entry
from tests.cli.conftest import Mad, write_deployment
from tests.cli.test_serve import SERVE, START_TIMEOUT_S

SECURITY = """
[security]
tokens = "tokens.toml"
tls_certificate = "server.pem"
tls_key = "server.key"
"""


@dataclass(frozen=True)
class Served:
    """Where a server is, and who signed its certificate."""

    folder: Path
    child: subprocess.Popen[str]
    grpc_port: int
    http_port: int

    def get(self, path: str, authority: trustme.CA, token: str = "") -> httpx.Response:
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        address = f"https://127.0.0.1:{self.http_port}{path}"
        with httpx.Client(verify=trusting, trust_env=False) as client:
            return client.get(address, headers=headers)


def certify(authority: trustme.CA, folder: Path) -> None:
    issued = authority.issue_cert("127.0.0.1", "localhost")
    for name, pem in (
        ("server.key", issued.private_key_pem),
        ("server.pem", issued.cert_chain_pems[0]),
    ):
        pem.write_to_path(folder / f".{name}")
        (folder / f".{name}").replace(folder / name)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def served(fitted: Path, tmp_path: Path, authority: trustme.CA) -> Iterator[Served]:
    config = write_deployment(tmp_path, fitted.read_text() + SECURITY)
    for name in ("baselines", "dictionaries"):
        (tmp_path / name).symlink_to(fitted.parent / name)
    certify(authority, tmp_path)
    tokens = entry("ada", ["alerts.read"], "of-ada") + entry("eve", ["infer"], "of-eve")
    (tmp_path / "tokens.toml").write_text(tokens)
    ports = tmp_path / "ports.json"
    anywhere = ["--grpc-address", "0.0.0.0:0", "--http-address", "0.0.0.0:0"]
    with subprocess.Popen(
        [*SERVE, str(config), "--ports-file", str(ports), *anywhere],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as child:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not ports.is_file() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert ports.is_file(), child.communicate()[1]
        taken = json.loads(ports.read_text())
        try:
            yield Served(tmp_path, child, taken["grpc"], taken["http"])
        finally:
            child.terminate()
            child.communicate(timeout=30)


@pytest.mark.slow
def test_a_server_beyond_loopback_asks_for_tokens_on_both_ports(
    served: Served, authority: trustme.CA, mad: Mad, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert served.get("/healthz", authority).status_code == 200
    for path in ("/metrics", "/"):
        assert served.get(path, authority).status_code == 401
        assert served.get(path, authority, "of-nobody").status_code == 401
        assert served.get(path, authority, "of-eve").status_code == 403
        assert served.get(path, authority, "of-ada").status_code == 200
    authority.cert_pem.write_to_path(served.folder / "ca.pem")
    address = f"localhost:{served.grpc_port}"
    monkeypatch.setenv("MAD_CA", str(served.folder / "ca.pem"))
    refused = mad("alerts", "--address", address)
    assert refused.code == 2
    assert "MAD_TOKEN" in refused.err
    monkeypatch.setenv("MAD_TOKEN", "of-ada")
    assert mad("alerts", "--address", address).code == 0
    assert "alerts.ack" in mad("stream", "--address", address, "--reset").err
    other = trustme.CA()
    certify(other, served.folder)
    deadline = time.monotonic() + 30
    while not is_trusted(served, other) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert served.get("/metrics", other, "of-ada").status_code == 200
    served.child.terminate()
    out, err = served.child.communicate(timeout=30)
    events = {one.event for one in records(served.folder / "audit.jsonl")}
    assert {"auth.failure", "certificates.reload"} <= events
    said = out + err + (served.folder / "audit.jsonl").read_text()
    assert not any(token in said for token in ("of-ada", "of-eve", "of-nobody"))


def is_trusted(served: Served, authority: trustme.CA) -> bool:
    try:
        return served.get("/healthz", authority).status_code == 200
    except httpx.ConnectError:
        return False
