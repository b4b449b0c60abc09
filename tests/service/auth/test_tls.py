"""TLS: certificates of the server and of its clients, changed while it runs."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import trustme
from cryptography import x509
from prometheus_client import CollectorRegistry

from mad.client import AsyncClient, Client
from mad.errors import ConfigError
from mad.service.auth.certificates import Certificates, TlsFiles
from mad.service.auth.guard import Access
from mad.service.auth.principals import entry
from mad.service.server import Server
from tests.service.auth.conftest import replace, token_of
from tests.service.running import build, live, until
from tests.worlds import World

CERTIFICATE_ONLY = '[principals.{0}]\nroles = ["{1}"]\ncertificates = ["{2}"]\n'


@dataclass(frozen=True)
class Secured:
    """A server with TLS, and who signed for it."""

    server: Server
    address: str
    directory: Path
    collectors: CollectorRegistry
    authority: trustme.CA
    clients: trustme.CA

    def credentials(self, client: trustme.LeafCert | None = None) -> grpc.ChannelCredentials:
        """Return what a client connects with, its own certificate if it has one."""
        root = self.authority.cert_pem.bytes()
        if client is None:
            return grpc.ssl_channel_credentials(root)
        return grpc.ssl_channel_credentials(
            root, client.private_key_pem.bytes(), client.cert_chain_pems[0].bytes()
        )


def write_certificate(authority: trustme.CA, directory: Path) -> TlsFiles:
    """Let an authority sign a certificate of the server."""
    issued = authority.issue_cert("127.0.0.1", "localhost")
    replace(directory / "server.pem", issued.cert_chain_pems[0].bytes().decode())
    replace(directory / "server.key", issued.private_key_pem.bytes().decode())
    return TlsFiles(certificate=directory / "server.pem", key=directory / "server.key")


@pytest.fixture(params=[False, True], ids=["tls", "mtls"])
async def secured(
    request: pytest.FixtureRequest, world: World, tmp_path: Path
) -> AsyncIterator[Secured]:
    authority, clients = trustme.CA(), trustme.CA()
    files = write_certificate(authority, tmp_path)
    if request.param:
        clients.cert_pem.write_to_path(tmp_path / "clients.pem")
        files = TlsFiles(
            certificate=files.certificate, key=files.key, client_ca=tmp_path / "clients.pem"
        )
    principals = tmp_path / "tokens.toml"
    principals.write_text(
        entry("ada", ["score.read"], token_of("ada"))
        + CERTIFICATE_ONLY.format("gateway", "score.read", "gateway.example")
        + CERTIFICATE_ONLY.format("pod", "alerts.read", "spiffe://example/pod")
    )
    collectors = CollectorRegistry()
    access = Access(principals=principals, tls=files, poll_s=0.05)
    server = build(world, tmp_path, collectors=collectors, access=access)
    address = f"localhost:{await server.start()}"
    yield Secured(server, address, tmp_path, collectors, authority, clients)
    await server.drain(lame_duck_s=0, grace_s=1)


only_tls = pytest.mark.parametrize("secured", [False], indirect=True)
only_mtls = pytest.mark.parametrize("secured", [True], indirect=True)


async def code_of(client: AsyncClient) -> grpc.StatusCode:
    try:
        await client.score(live(), baseline="tiny")
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@only_tls
async def test_a_token_over_tls_is_let_in_and_nothing_in_the_clear_is(secured: Secured) -> None:
    credentials = secured.credentials()
    async with AsyncClient(
        secured.address, token=token_of("ada"), credentials=credentials
    ) as client:
        assert await code_of(client) is grpc.StatusCode.OK
    async with AsyncClient(secured.address, credentials=credentials) as client:
        assert await code_of(client) is grpc.StatusCode.UNAUTHENTICATED
    async with AsyncClient(secured.address, token=token_of("ada"), timeout_s=1) as client:
        assert await code_of(client) is not grpc.StatusCode.OK


@only_tls
async def test_a_new_certificate_counts_without_a_restart(secured: Secured) -> None:
    credentials = secured.credentials()
    async with AsyncClient(
        secured.address, token=token_of("ada"), credentials=credentials
    ) as before:
        assert await code_of(before) is grpc.StatusCode.OK
        other = trustme.CA()
        write_certificate(other, secured.directory)
        await until(lambda: reloads(secured, "ok") >= 1 and is_whole(secured))
        fresh = grpc.ssl_channel_credentials(other.cert_pem.bytes())
        async with AsyncClient(secured.address, token=token_of("ada"), credentials=fresh) as after:
            assert await code_of(after) is grpc.StatusCode.OK
        assert await code_of(before) is grpc.StatusCode.OK


def reloads(secured: Secured, outcome: str) -> float:
    labels = {"model": "tiny", "what": "certificates", "outcome": outcome}
    return secured.collectors.get_sample_value("mad_security_reloads_total", labels) or 0.0


def is_whole(secured: Secured) -> bool:
    """Whether what listens has the certificate that is on disk."""
    certificates = secured.server.guard.certificates
    assert certificates is not None
    return certificates.digest == Certificates(certificates.files).digest


@only_tls
async def test_a_key_of_another_certificate_leaves_the_one_before(secured: Secured) -> None:
    other = trustme.CA().issue_cert("127.0.0.1")
    replace(secured.directory / "server.key", other.private_key_pem.bytes().decode())
    await until(lambda: reloads(secured, "failed") == 1)
    async with AsyncClient(
        secured.address, token=token_of("ada"), credentials=secured.credentials()
    ) as client:
        assert await code_of(client) is grpc.StatusCode.OK


@only_mtls
async def test_a_client_certificate_names_its_principal(
    secured: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = secured.clients.issue_cert("gateway.example")
    async with AsyncClient(secured.address, credentials=secured.credentials(gateway)) as client:
        assert await code_of(client) is grpc.StatusCode.OK
    # trustme signs host names only.
    monkeypatch.setattr(trustme, "_identity_string_to_x509", x509.UniformResourceIdentifier)
    pod = secured.clients.issue_cert("spiffe://example/pod")
    async with AsyncClient(secured.address, credentials=secured.credentials(pod)) as client:
        assert await code_of(client) is grpc.StatusCode.PERMISSION_DENIED
        assert len((await client.alerts()).alerts) == 0


@only_mtls
@pytest.mark.parametrize(
    "names", [["stranger.example"], ["gateway@example"], ["gateway.example.evil"]]
)
async def test_a_certificate_of_nobody_known_is_unauthenticated(
    secured: Secured, names: list[str]
) -> None:
    stranger = secured.clients.issue_cert(*names, common_name="gateway.example")
    async with AsyncClient(secured.address, credentials=secured.credentials(stranger)) as client:
        assert await code_of(client) is grpc.StatusCode.UNAUTHENTICATED


@only_mtls
async def test_a_token_decides_before_a_certificate(secured: Secured) -> None:
    gateway = secured.credentials(secured.clients.issue_cert("gateway.example"))
    async with AsyncClient(secured.address, credentials=gateway, token=token_of("eve")) as client:
        assert await code_of(client) is grpc.StatusCode.UNAUTHENTICATED
    stranger = secured.credentials(secured.clients.issue_cert("stranger.example"))
    async with AsyncClient(secured.address, credentials=stranger, token=token_of("ada")) as client:
        assert await code_of(client) is grpc.StatusCode.OK


@only_mtls
async def test_who_shows_no_certificate_of_the_authority_does_not_get_in(secured: Secured) -> None:
    foreign = trustme.CA().issue_cert("gateway.example")
    for credentials in (secured.credentials(), secured.credentials(foreign)):
        async with AsyncClient(
            secured.address, token=token_of("ada"), credentials=credentials, timeout_s=1
        ) as client:
            code = await code_of(client)
            assert code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


@pytest.mark.parametrize("damage", ["missing", "empty", "swapped", "another key"])
def test_files_that_cannot_be_used_are_named_at_the_start(tmp_path: Path, damage: str) -> None:
    files = write_certificate(trustme.CA(), tmp_path)
    match damage:
        case "missing":
            files.key.unlink()
        case "empty":
            files.certificate.write_text("")
        case "swapped":
            files = TlsFiles(certificate=files.key, key=files.certificate)
        case _:
            write_certificate(trustme.CA(), tmp_path)
            replace(files.key, trustme.CA().issue_cert("x").private_key_pem.bytes().decode())
    with pytest.raises(ConfigError, match="cannot use the TLS files"):
        Certificates(files)


@pytest.mark.parametrize(
    "target",
    ["example.org:8001", "10.0.0.1:1", "dns:///a.b:1", "ipv4:127.0.0.1:1,10.0.0.1:1", "[::2]:1"],
)
def test_a_client_sends_no_token_in_the_clear_to_another_machine(target: str) -> None:
    with pytest.raises(ConfigError, match="in the clear"):
        Client(target, token=token_of("ada"))


@pytest.mark.parametrize(
    "target", ["localhost:1", "127.0.0.1:1", "[::1]:1", "ipv6:[::1]:1", "dns:///localhost:1"]
)
def test_a_client_sends_a_token_to_its_own_machine(target: str) -> None:
    Client(target, token=token_of("ada")).close()
