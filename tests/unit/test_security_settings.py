"""What a server asks for before it can be reached from other machines."""

from pathlib import Path

import pytest

from mad.config import Address, Security
from mad.config.security import is_loopback
from mad.errors import ConfigError

TLS = {"tls_certificate": "a.pem", "tls_key": "a.key"}
EVERYWHERE = Address("::", 8001)


def security(**settings: object) -> Security:
    return Security.model_validate(settings, context=Path("/srv"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1"])
def test_loopback_needs_nothing(host: str) -> None:
    assert is_loopback(Address(host, 1))
    security().check_exposed(Address(host, 1))


@pytest.mark.parametrize("host", ["::", "10.1.2.3", "example.org", "localhost.evil"])
def test_any_other_address_needs_tls_and_tokens(host: str) -> None:
    with pytest.raises(ConfigError, match=r"security\.tls_certificate.*security\.tokens; set them"):
        security().check_exposed(Address("127.0.0.1", 1), Address(host, 1))


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ConfigError, match=r"which needs security\.tokens; set"):
        security(**TLS).check_exposed(EVERYWHERE)
    with pytest.raises(ConfigError, match=r"which needs security\.tls_certificate and .*tls_key;"):
        security(tokens="t.toml").check_exposed(EVERYWHERE)


@pytest.mark.parametrize("settings", [{"insecure": True}, {**TLS, "tokens": "t.toml"}])
def test_tls_and_tokens_or_saying_so_lift_it(settings: dict[str, object]) -> None:
    security(**settings).check_exposed(EVERYWHERE)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tls_key": "a.key"}, "give both or neither"),
        ({"tls_certificate": "a.pem"}, "give both or neither"),
        ({"client_ca": "c.pem"}, "client_ca needs"),
        ({"client_ca": "c.pem", **TLS}, "client_ca needs"),
        ({"client_ca": "c.pem", "tokens": "t.toml"}, "client_ca needs"),
        ({"insecure": "yes"}, "boolean"),
        ({"coarse_bits": 0.0}, "greater than 0"),
        ({"token": "t"}, "Extra inputs"),
    ],
)
def test_settings_that_make_no_sense_together_are_refused(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        security(**settings)
