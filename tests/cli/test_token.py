"""``mad token``, and a server that listens beyond this machine."""

import re
from pathlib import Path

import pytest

from mad.service.auth.principals import Principals, digest_of
from tests.cli.conftest import SETTINGS, Mad


def printed_token(out: str) -> str:
    found = re.search(r"shown only now: (\S+)", out)
    assert found is not None
    return found[1]


def test_a_token_is_shown_once_and_only_its_digest_is_kept(mad: Mad, tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    run = mad("token", "ada", "--role", "score.read", "--role", "fit", "--file", file)
    assert run.code == 0
    token = printed_token(run.out)
    assert token not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    principal = Principals.load(file).of_token(digest_of(token))
    assert principal is not None
    assert (principal.name, sorted(principal.roles)) == ("ada", ["fit", "score.read"])


def test_a_second_principal_is_added_beside_the_first(mad: Mad, tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text("# who may call\n")
    tokens = [
        printed_token(mad("token", name, "--role", "infer", "--file", file).out)
        for name in ("ada", "eve")
    ]
    known = Principals.load(file)
    names = [principal.name for token in tokens if (principal := known.of_token(digest_of(token)))]
    assert names == ["ada", "eve"]
    assert file.read_text().startswith("# who may call\n")


def test_without_a_file_the_entry_is_printed(mad: Mad) -> None:
    run = mad("token", "ada", "--role", "admin")
    entry, _, _ = run.out.partition("Token of ada")
    assert Principals.parse(entry, "here").of_token(digest_of(printed_token(run.out)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ada", "--role", "king"], "principals.ada.roles.0"),
        (["a b", "--role", "infer"], "String should match"),
        (["ada", "--role", "infer", "--file", "{file}"], "cannot add ada"),
    ],
)
def test_a_mistake_writes_nothing(
    mad: Mad, tmp_path: Path, arguments: list[str], message: str
) -> None:
    file = tmp_path / "tokens.toml"
    mad("token", "ada", "--role", "infer", "--file", file)
    before = file.read_text()
    run = mad("token", *(argument.format(file=file) for argument in arguments))
    assert run.code == 2
    assert message in run.err
    assert file.read_text() == before


@pytest.mark.parametrize("option", ["--grpc-address", "--http-address"])
def test_a_server_is_not_reached_from_elsewhere_by_accident(
    mad: Mad, tmp_path: Path, option: str
) -> None:
    (tmp_path / "mad.toml").write_text(SETTINGS)
    run = mad("serve", tmp_path / "mad.toml", option, "0.0.0.0:0")
    assert run.code == 2
    assert "can be reached from other machines" in run.err
