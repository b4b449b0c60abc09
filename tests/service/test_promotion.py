"""Promotion on a running server: a good version scores at once, a bad one changes nothing."""

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from prometheus_client import CollectorRegistry

from mad import audit
from mad.baseline.bundle import Provenance
from mad.client import AsyncClient
from mad.promotion import Exam
from mad.service.promotion.promoting import PromotionPlan
from mad.service.server import Limits
from mad.v1 import baselines_pb2 as pb, scoring_pb2
from tests.service.running import LIMITS, Running, anomalies, build, gated, live
from tests.worlds import Rows, World, ordinary, strange

PLAN = PromotionPlan(
    exam=Exam(trusted=Rows(ordinary(80, seed=70)), canaries=Rows(strange(40, seed=71))),
    poll_s=3600,
)


@asynccontextmanager
async def serving(
    world: World, directory: Path, plan: PromotionPlan = PLAN, *, limits: Limits = LIMITS
) -> AsyncIterator[Running]:
    collectors = CollectorRegistry()
    server = build(world, directory, collectors=collectors, promotion=plan, limits=limits)
    address = f"127.0.0.1:{await server.start()}"
    try:
        # A busy machine may take its time: what is claimed here is that no call fails.
        own = AsyncClient(address, timeout_s=100)
        async with own as client, grpc.aio.insecure_channel(address) as channel:
            yield Running(server, collectors, address, client, channel)
    finally:
        await server.drain(lame_duck_s=0, grace_s=1)


@pytest.fixture
async def server(world: World, tmp_path: Path) -> AsyncIterator[Running]:
    """Serve version 1; version 2 is a candidate like it."""
    async with serving(world, tmp_path) as running:
        running.server.store.save(
            world.baseline, activate=False, provenance=Provenance(principal="ada", inputs=600)
        )
        yield running


@asynccontextmanager
async def under_load(server: Running, *, callers: int = 4) -> AsyncIterator[list[str]]:
    """Score from several callers without a pause; yields the revisions that answered, in order."""
    revisions: list[str] = []
    stop = asyncio.Event()

    async def call(seed: int) -> None:
        while not stop.is_set():
            answer = await server.client.score(live(2, seed=seed))
            revisions.append(answer.baseline_revision)

    calls = [asyncio.create_task(call(seed)) for seed in range(callers)]
    try:
        yield revisions
        seen = len(revisions)
        async with asyncio.timeout(60):
            while len(revisions) < seen + 3 * callers:
                await asyncio.sleep(0.005)
    finally:
        stop.set()
        await asyncio.gather(*calls)  # a call that failed fails the test here


def promote(server: Running, revision: str, **fields: str) -> Awaitable[pb.PromoteBaselineResponse]:
    return server.client.baseline.PromoteBaseline(
        pb.PromoteBaselineRequest(revision=revision, **fields)
    )


def events(directory: Path) -> list[tuple[str, str]]:
    return [(one.event, one.subject) for one in audit.records(directory / "audit.jsonl")]


async def refused(call: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code(), error.value.details() or ""


async def test_a_promotion_under_load_loses_no_call_and_changes_the_revision(
    server: Running, tmp_path: Path
) -> None:
    await server.client.score(anomalies(8))
    async with under_load(server) as revisions:
        moved = await promote(server, "tiny@2", expected_revision="tiny@1")
        at = len(revisions)
    assert set(revisions) == {"tiny@1", "tiny@2"} or at == 0
    # Each caller may have had one call under way.
    assert revisions[at:].count("tiny@1") <= 4
    assert moved.previous_revision == "tiny@1"
    assert (moved.baseline.version, moved.baseline.is_active, moved.baseline.is_loaded) == (
        2,
        True,
        True,
    )
    assert moved.baseline.provenance.principal == "ada"
    assert [gate.name for gate in moved.gates if gate.is_passed] == [
        "reference",
        "p_values_uniform",
        "canaries",
        "drift",
        "quarantine",
    ]
    assert events(tmp_path) == [
        ("baseline.promote", "tiny@2"),
        ("baseline.promote.done", "tiny@2"),
    ]
    labels = {"model": "tiny", "baseline": "tiny", "revision": "tiny@2"}
    digest = moved.baseline.digest[:8]
    assert server.sample("mad_baseline_info", **labels, digest=digest, alert_on="surprise") == 1


def flip_one_bit(directory: Path) -> None:
    path = directory / "arrays.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def edit(directory: Path) -> None:
    path = directory / "manifest.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))


def of_another_model(directory: Path) -> None:
    path = directory / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["digest"]
    manifest["baseline"]["model_fingerprint"] = "0" * 64
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(manifest | {"digest": digest}))


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (flip_one_bit, "arrays.safetensors .* truncated or was changed"),
        (edit, "manifest.json was edited since the fit"),
        (of_another_model, "was fitted on another model"),
    ],
)
async def test_a_version_that_cannot_be_used_leaves_the_old_one_serving(
    server: Running, tmp_path: Path, harm: Callable[[Path], None], told: str
) -> None:
    harm(tmp_path / "baselines" / "tiny" / "2")
    async with under_load(server) as revisions:
        code, text = await refused(promote(server, "tiny@2"))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert re.search(told, text)
    assert set(revisions) == {"tiny@1"}
    assert server.server.store.pointer("tiny", "active").version == 1


async def test_a_version_that_fails_a_gate_is_not_promoted_and_says_which(
    server: Running, world: World, tmp_path: Path
) -> None:
    manifest = replace(world.baseline.manifest, false_alarm_rate=1e-4)
    server.server.store.save(replace(world.baseline, manifest=manifest), activate=False)
    async with under_load(server) as revisions:
        code, text = await refused(promote(server, "tiny@3"))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "tiny@3 does not pass reference: 150 reference inputs reach" in text
    assert set(revisions) == {"tiny@1"}
    assert events(tmp_path) == [("baseline.refused", "tiny@3")]
    found = await server.client.versions.evaluate("tiny@3")
    assert not found.is_promotable
    assert found.active_revision == "tiny@1"
    assert not found.gates[0].is_passed


async def test_of_two_promoters_from_one_state_one_wins(server: Running, world: World) -> None:
    server.server.store.save(world.baseline, activate=False)
    async with under_load(server) as revisions:
        results = await asyncio.gather(
            *(promote(server, f"tiny@{two}", expected_revision="tiny@1") for two in (2, 3)),
            return_exceptions=True,
        )
        at = len(revisions)
    lost = [one for one in results if isinstance(one, grpc.aio.AioRpcError)]
    assert [one.code() for one in lost] == [grpc.StatusCode.ABORTED]
    assert "the active version of 'tiny' is" in (lost[0].details() or "")
    (won,) = (one for one in results if not isinstance(one, BaseException))
    assert set(revisions[at + 4 :]) == {f"tiny@{won.baseline.version}"}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"revision": "tiny@2", "expected_revision": "tiny@7"}, grpc.StatusCode.ABORTED),
        ({"revision": "tiny@2", "expected_revision": "none"}, grpc.StatusCode.ABORTED),
        ({"revision": "tiny@2", "expected_revision": "other@1"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"revision": "tiny@2", "alias": "../active"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"revision": "tiny"}, grpc.StatusCode.NOT_FOUND),
        ({"revision": "tiny@9"}, grpc.StatusCode.NOT_FOUND),
        ({"revision": "../../etc/passwd@1"}, grpc.StatusCode.NOT_FOUND),
    ],
)
async def test_what_is_asked_wrongly_is_refused(
    server: Running, fields: dict[str, str], code: grpc.StatusCode
) -> None:
    found, _ = await refused(
        server.client.baseline.PromoteBaseline(pb.PromoteBaselineRequest(**fields))
    )
    assert found is code
    assert (await server.client.score(live())).baseline_revision == "tiny@1"


async def test_a_rollback_serves_what_was_active_before(server: Running) -> None:
    await promote(server, "tiny@2")
    async with under_load(server) as revisions:
        back = await server.client.versions.roll_back(expected="tiny@2")
        at = len(revisions)
    assert (back.baseline.version, back.previous_revision) == (1, "tiny@2")
    assert set(revisions[at + 4 :]) == {"tiny@1"}
    code, text = await refused(server.client.versions.roll_back("tiny"))
    assert (code, text.startswith("no earlier active version")) == (
        grpc.StatusCode.NOT_FOUND,
        True,
    )


async def test_what_an_alias_points_at_is_not_deleted_over_the_api(server: Running) -> None:
    versions = server.client.versions
    code, _ = await refused(versions.delete("tiny@1"))
    assert code is grpc.StatusCode.ABORTED
    await versions.delete("tiny@2")
    listed = await server.client.baselines()
    assert [one.version for one in listed.baselines] == [1]
    assert (await versions.get("tiny")).version == 1
    code, _ = await refused(versions.get("tiny@2"))
    assert code is grpc.StatusCode.NOT_FOUND


async def test_the_evidence_about_traffic_begins_anew_with_another_baseline(
    server: Running,
) -> None:
    for seed in range(4):
        await server.client.score(anomalies(40, seed=seed))
    before = (await server.client.evidence()).stream
    assert (before.baseline_revision, before.inputs) == ("tiny@1", 160)
    await promote(server, "tiny@2")
    await server.client.score(live(3))
    after = (await server.client.evidence()).stream
    assert (after.baseline_revision, after.inputs) == ("tiny@2", 3)


def shadowed(server: Running) -> float:
    labels = {"model": "tiny", "baseline": "tiny", "traffic": "shadow"}
    return server.sample("mad_inputs_scored_total", **labels)


async def test_a_shadow_counts_live_traffic_and_never_alerts(server: Running) -> None:
    await promote(server, "tiny@2", alias="shadow", expected_revision="none")
    answer = await server.client.score(anomalies(5))
    assert answer.baseline_revision == "tiny@1"
    alone = scoring_pb2.ScoreOptions(dry_run=True)
    await server.client.score(live(7), options=alone)
    assert shadowed(server) == 5
    labels = {"model": "tiny", "baseline": "tiny", "traffic": "shadow"}
    assert server.sample("mad_p_value_bucket", **labels, le="0.05") == 5
    assert (await server.client.calibration("tiny@2")).rates[0].alarms == 5
    alerts = (await server.client.alerts()).alerts
    assert {one.baseline_revision for one in alerts} == {"tiny@1"}
    assert len(alerts) == 5
    listed = {one.version: one for one in (await server.client.baselines()).baselines}
    assert list(listed[2].aliases) == ["shadow"]
    assert listed[2].is_loaded


async def test_a_shadow_that_fails_changes_no_answer(server: Running) -> None:
    await promote(server, "tiny@2", alias="shadow")
    shadow = server.server.registry.shadow
    assert shadow is not None
    broken = replace(shadow, baseline=replace(shadow.baseline, weighing=None))  # type: ignore[arg-type]  # the failure
    server.server.registry.put_shadow(broken)
    for _ in range(2):
        assert len((await server.client.score(live(3))).scores) == 3
    assert shadowed(server) == 0
    assert server.sample("mad_shadow_errors_total", model="tiny") == 2


async def until(claim: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not claim():
            await asyncio.sleep(0.02)


async def test_a_promotion_waits_for_room_among_live_traffic(world: World, tmp_path: Path) -> None:
    limits = replace(LIMITS, max_queued_inputs=64)
    async with serving(world, tmp_path, PLAN, limits=limits) as server:
        server.server.store.save(world.baseline, activate=False)
        with gated(world) as gate:
            call = asyncio.create_task(server.client.score(live(64)))
            await until(lambda: server.queued == 64)
            promotion = asyncio.ensure_future(promote(server, "tiny@2"))
            await asyncio.sleep(0.3)
            assert not promotion.done()
            gate.opened.set()
            assert (await promotion).baseline.is_active
            assert len((await call).scores) == 64


async def test_an_alias_that_is_moved_elsewhere_is_followed(world: World, tmp_path: Path) -> None:
    async with serving(world, tmp_path, replace(PLAN, poll_s=0.05)) as server:
        store = server.server.store
        for _ in range(3):
            store.save(world.baseline, activate=False)

        def reloads(alias: str, outcome: str) -> float:
            labels = {"model": "tiny", "alias": alias, "outcome": outcome}
            return server.sample("mad_baseline_reloads_total", **labels)

        async with under_load(server) as revisions:
            store.activate("tiny", 2)
            await until(lambda: revisions[-1:] == ["tiny@2"])
            flip_one_bit(tmp_path / "baselines" / "tiny" / "3")
            store.activate("tiny", 3)
            await until(lambda: reloads("active", "failed") >= 1)
            assert revisions[-1] == "tiny@2"
            store.activate("tiny", 4)
            await until(lambda: revisions[-1:] == ["tiny@4"])
        await until(lambda: reloads("active", "loaded") == 2)
        before = store.pointer("tiny", "shadow")
        store.move("tiny", "shadow", before, before.moved_to(1))
        # The shadow scores before it is counted.
        await until(lambda: reloads("shadow", "loaded") == 1)
        assert server.server.registry.shadow is not None
    assert [subject for event, subject in events(tmp_path) if event == "baseline.followed"] == [
        "tiny@2",
        "tiny@4",
        "tiny@1",
    ]


async def test_a_signal_has_the_store_looked_at_now(server: Running) -> None:
    server.server.store.activate("tiny", 2)
    server.server.look_at_store()
    await until(lambda: server.server.registry.default.baseline.revision == "tiny@2")
