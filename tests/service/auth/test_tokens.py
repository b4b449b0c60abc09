"""Tokens: which headers name a caller, how the file is read again, and what is put on record."""

import asyncio
import logging
from pathlib import Path

import grpc
import pytest

from mad.audit import records, verify
from mad.client import AsyncClient, Client, request
from mad.errors import ConfigError
from mad.service.auth.principals import MAX_TOKEN, Principals, digest_of, entry, new_token
from mad.service.caller import Principal
from mad.v1 import alerts_pb2
from tests.service.auth.conftest import (
    Metadata,
    bearer,
    replace,
    streaming,
    token_of,
    unary,
    write_principals,
)
from tests.service.running import Running, live, until

LIST = "/mad.v1.AlertService/ListAlerts"
TOKEN = token_of("alerts.read")


async def code_of(service: Running, metadata: Metadata) -> str:
    call = unary(service.channel, LIST)(b"", metadata=tuple(metadata), timeout=20)
    return (await call.code()).name


@pytest.mark.parametrize(
    "metadata",
    [
        [("authorization", f"Bearer {TOKEN}")],
        [("authorization", f"bearer {TOKEN}")],
        [("authorization", f"BEARER {TOKEN}"), ("authorization-bin", b"\x00\xff")],
    ],
)
async def test_a_bearer_of_a_token_is_let_in(guarded: Running, metadata: Metadata) -> None:
    assert await code_of(guarded, metadata) == "OK"


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ([], "missing"),
        ([("authorization-bin", TOKEN.encode())], "missing"),
        ([("x-token", TOKEN)], "missing"),
        ([("authorization", "")], "malformed"),
        ([("authorization", TOKEN)], "malformed"),
        ([("authorization", "Bearer")], "malformed"),
        ([("authorization", "Bearer ")], "malformed"),
        ([("authorization", f"Basic {TOKEN}")], "malformed"),
        ([("authorization", "Bearer " + "x" * (MAX_TOKEN + 1))], "malformed"),
        ([("authorization", f"Bearer {TOKEN}")] * 2, "malformed"),
        ([("authorization", "Bearer x"), ("authorization", f"Bearer {TOKEN}")], "malformed"),
        ([("authorization", f"Bearer {TOKEN}x")], "unknown"),
        ([("authorization", f"Bearer {TOKEN[:-1]}")], "unknown"),
        ([("authorization", f"Bearer {digest_of(TOKEN).hex()}")], "unknown"),
        ([("authorization", f"Bearer sha256:{digest_of(TOKEN).hex()}")], "unknown"),
    ],
)
async def test_anything_else_is_unauthenticated_and_counted(
    guarded: Running, metadata: Metadata, reason: str
) -> None:
    assert await code_of(guarded, metadata) == "UNAUTHENTICATED"
    assert guarded.sample("mad_auth_failures_total", model="tiny", reason=reason) == 1


async def test_a_header_beyond_the_limit_is_refused_before_anybody_reads_it(
    guarded: Running,
) -> None:
    metadata = [("authorization", f"Bearer {TOKEN}"), ("padding", "x" * 40_000)]
    assert await code_of(guarded, metadata) == "RESOURCE_EXHAUSTED"
    assert await code_of(guarded, bearer("alerts.read")) == "OK"


async def test_a_stream_is_answered_as_its_caller_all_along(guarded: Running) -> None:
    stub = streaming(guarded.channel, "/mad.v1.ScoringService/ScoreStream")
    call = stub(iter([b""] * 3), metadata=bearer("score.coarse"))
    assert len([answer async for answer in call]) == 3
    assert await call.code() is grpc.StatusCode.OK


async def test_a_caller_learns_which_roles_it_lacks(guarded: Running) -> None:
    call = unary(guarded.channel, LIST)(b"", metadata=bearer("infer"))
    assert await call.details() == (
        "infer may not call mad.v1.AlertService/ListAlerts; it takes a caller with one of the "
        "roles admin, alerts.read"
    )


async def test_a_changed_file_counts_without_a_restart(guarded: Running, tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    assert await code_of(guarded, bearer("alerts.read")) == "OK"
    write_principals(file, {"ada": ("alerts.read",)})
    ok = {"model": "tiny", "what": "tokens", "outcome": "ok"}
    await until(lambda: guarded.sample("mad_security_reloads_total", **ok) == 1)
    assert await code_of(guarded, bearer("ada")) == "OK"
    assert await code_of(guarded, bearer("alerts.read")) == "UNAUTHENTICATED"


@pytest.mark.parametrize("broken", ["", "nonsense [", '[principals.ada]\nroles = ["king"]\n'])
async def test_a_broken_file_leaves_the_one_before_in_force(
    guarded: Running, tmp_path: Path, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "tokens.toml"
    before = file.read_text()
    replace(file, broken)
    failed = {"model": "tiny", "what": "tokens", "outcome": "failed"}
    await until(lambda: guarded.sample("mad_security_reloads_total", **failed) == 1)
    assert await code_of(guarded, bearer("alerts.read")) == "OK"
    assert [one.message for one in caplog.records if one.levelno == logging.ERROR]
    replace(file, before)
    ok = {**failed, "outcome": "ok"}
    await until(lambda: guarded.sample("mad_security_reloads_total", **ok) == 1)
    await guarded.server.drain(lame_duck_s=0, grace_s=1)
    events = [one.event for one in records(tmp_path / "audit.jsonl")]
    assert events == ["tokens.reload_failed", "tokens.reload"]


async def test_refused_calls_are_on_record_with_a_count_and_no_token(
    guarded: Running, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    guess = "Bearer a-guess-at-a-secret"
    async with asyncio.TaskGroup() as tasks:
        for _ in range(300):
            tasks.create_task(code_of(guarded, [("authorization", guess)]))
        for _ in range(30):
            tasks.create_task(code_of(guarded, bearer("infer")))
    await guarded.server.drain(lame_duck_s=0, grace_s=1)
    log = tmp_path / "audit.jsonl"
    kept = [one for one in records(log) if one.event == "auth.failure"]
    counts: dict[tuple[str, object], int] = {}
    for one in kept:
        key = (one.principal, one.fields["reason"])
        counts[key] = counts.get(key, 0) + int(str(one.fields["count"]))
    assert counts == {("", "unknown"): 300, ("infer", "role"): 30}
    assert len(kept) <= 20
    assert {one.subject for one in kept} == {"mad.v1.AlertService/ListAlerts"}
    assert "a-guess" not in log.read_text() + caplog.text
    verify(log)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "principals: Field required"),
        ("[principals]", "at least 1 item"),
        ("[principals.ada]\nroles = []\ntokens = []", "principals.ada.roles"),
        ('[principals.ada]\nroles = ["infer"]', "neither tokens nor certificates"),
        ('[principals.ada]\nroles = ["root"]\ncertificates = ["a"]', "principals.ada.roles.0"),
        ('[principals.ada]\nroles = ["infer"]\ntoken = "x"', "principals.ada.token: Extra"),
        ('[principals."a b"]\nroles = ["infer"]\ncertificates = ["a"]', "String should match"),
        ('[people.ada]\nroles = ["infer"]', "people: Extra"),
        ("not TOML at all", "is not TOML at line 1, column 5"),
        (f'[principals.ada]\nroles = ["infer"]\ntokens = ["{TOKEN}"]', "principals.ada.tokens.0"),
        (f'[principals.ada]\nroles = ["infer"]\ntokens = ["sha256:{"A" * 64}"]', "tokens.0"),
        (entry("a", ["infer"], TOKEN) + entry("b", ["fit"], TOKEN), "a and b share a token"),
        (
            "".join(f'[principals.{n}]\nroles=["fit"]\ncertificates=["x"]\n' for n in "ab"),
            "a and b share a token or a certificate",
        ),
    ],
)
def test_a_file_with_a_mistake_is_refused_and_never_quoted(
    tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "tokens.toml").write_text(content)
    with pytest.raises(ConfigError, match=message) as refused:
        Principals.load(tmp_path / "tokens.toml")
    assert TOKEN not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read security\.tokens"):
        Principals.load(tmp_path / "none.toml")


def test_tokens_are_long_and_never_the_same() -> None:
    made = {new_token() for _ in range(1000)}
    assert len(made) == 1000
    assert min(map(len, made)) >= 43


def test_a_principal_may_have_two_tokens_while_one_replaces_the_other() -> None:
    digests = ", ".join(f'"sha256:{digest_of(one).hex()}"' for one in ("old", "new"))
    text = f'[principals.ada]\nroles = ["infer", "fit"]\ntokens = [{digests}]'
    known = Principals.parse(text, "file")
    for token in ("old", "new"):
        principal = known.of_token(digest_of(token))
        assert principal is not None
        assert principal == Principal("ada", frozenset({"infer", "fit"}))
    assert known.of_token(digest_of("other")) is None


async def test_both_clients_carry_a_token_on_every_call(guarded: Running) -> None:
    token = token_of("admin")

    def ask() -> None:
        with Client(guarded.address, token=token) as client:
            assert len(client.alerts().alerts) == 0
            requests = [request(live(), request_id=str(n)) for n in range(3)]
            assert sum(1 for _ in client.stream(requests)) == 3
            page = alerts_pb2.ListAlertsRequest()
            assert not client.alert.ListAlerts.future(page).result().alerts
            _, call = client.alert.ListAlerts.with_call(page)
            assert call.code() is grpc.StatusCode.OK

    await asyncio.to_thread(ask)
    async with AsyncClient(guarded.address, token=token) as client:
        assert len((await client.score(live())).scores) == 1
        answers = [one async for one in client.stream([request(live(), request_id="a")])]
        assert [one.WhichOneof("result") for one in answers] == ["response"]
