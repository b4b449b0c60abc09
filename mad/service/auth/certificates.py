"""The server's certificate and key, and the authority of client certificates, for both ports."""

import hashlib
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import final

import grpc

from mad.errors import ConfigError


@final
@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """PEM files; ``client_ca`` signs the certificates that every gRPC client must then show."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file."""
        authority = () if self.client_ca is None else (self.client_ca,)
        return (self.certificate, self.key, *authority)


@final
class Certificates:
    """What TLS files hold, for new connections; those that are open keep what they began with."""

    def __init__(self, files: TlsFiles) -> None:
        self.files = files
        self.web = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._changing = threading.Lock()
        self.digest = ""
        self._first = self._read()
        self._next: grpc.ServerCertificateConfiguration | None = None

    def reload(self) -> str:
        """Read the files again, and return the SHA-256 of the certificate.

        Raises ConfigError, and goes on with the old ones, if they cannot be used.
        """
        fresh = self._read()
        with self._changing:
            self._next = fresh
        return self.digest

    def credentials(self) -> grpc.ServerCredentials:
        """Return what a gRPC server listens with."""
        return grpc.dynamic_ssl_server_credentials(
            self._first,
            self._changed,  # type: ignore[arg-type]  # None is allowed, and says: as before
            require_client_authentication=self.files.client_ca is not None,
        )

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the new certificate once; gRPC asks before every handshake."""
        with self._changing:
            fresh, self._next = self._next, None
            return fresh

    def _read(self) -> grpc.ServerCertificateConfiguration:
        files = self.files
        try:
            trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            # Without a password given, OpenSSL would ask for one on the terminal.
            trial.load_cert_chain(files.certificate, files.key, password="")
            certificate, key = files.certificate.read_bytes(), files.key.read_bytes()
            authority = None
            if files.client_ca is not None:
                trial.load_verify_locations(files.client_ca)
                authority = files.client_ca.read_bytes()
            self.digest = hashlib.sha256(certificate).hexdigest()
            self.web.load_cert_chain(files.certificate, files.key, password="")
        except (OSError, ValueError) as error:
            names = ", ".join(map(str, files.paths))
            raise ConfigError(
                f"cannot use the TLS files {names}: {error}; they must be PEM, the key that of the "
                "certificate and without a passphrase"
            ) from error
        return grpc.ssl_server_certificate_configuration([(key, certificate)], authority)
