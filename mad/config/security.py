"""Settings of who may do what, and of what is recorded of it."""

import ipaddress
from pathlib import Path
from typing import Annotated, Self, final

from pydantic import Field, model_validator

from mad.config.fields import Address, File, Positive, Section
from mad.errors import ConfigError


@final
class Security(Section):
    """Who may call, how the wire is protected, what a caller of little trust is told."""

    tokens: File | None = None
    tls_certificate: File | None = None
    tls_key: File | None = None
    client_ca: File | None = None
    insecure: Annotated[bool, Field(strict=True)] = False
    coarse_bits: Positive = 4.0
    audit_log: File = Path("audit.jsonl")

    @model_validator(mode="after")
    def _what_belongs_together_is_given(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key are one thing; give both or neither")
        if self.client_ca is not None and (self.tls_certificate is None or self.tokens is None):
            raise ValueError(
                "client_ca needs tls_certificate, tls_key and tokens: that file says what the "
                "bearer of each client certificate may do"
            )
        return self

    def check_exposed(self, *addresses: Address) -> None:
        """Refuse to be reached from elsewhere without asking who calls, or in the clear.

        Raises:
            ConfigError: one of the addresses is not loopback, and TLS or tokens are missing, unless
                ``insecure`` says that it is meant.
        """
        missing = [
            name
            for name, value in (
                ("security.tls_certificate and security.tls_key", self.tls_certificate),
                ("security.tokens", self.tokens),
            )
            if value is None
        ]
        for address in addresses:
            if missing and not self.insecure and not is_loopback(address):
                raise ConfigError(
                    f"{address} can be reached from other machines, which needs "
                    f"{' and '.join(missing)}; set them, listen on 127.0.0.1, or say "
                    "security.insecure = true if the network is trusted"
                )


def is_loopback(address: Address) -> bool:
    """Whether only this machine can reach an address."""
    if address.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return False
