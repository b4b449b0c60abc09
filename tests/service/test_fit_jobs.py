"""Trusted inputs over a stream become a job, the job a candidate, and nothing else changes."""

import asyncio
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mad.client import fit_config
from mad.v1 import baselines_pb2 as pb
from tests.service.deployed import copied, serving
from tests.service.running import Running, anomalies, live, until
from tests.worlds import ordinary


def counted(service: Running, state: str) -> float:
    """Return how many jobs came to a state."""
    return service.sample("mad_fit_jobs_total", model="tiny", state=state)


async def test_a_stream_becomes_a_candidate_that_changes_nothing(
    fitted: Path, tmp_path: Path
) -> None:
    home = copied(fitted, tmp_path)
    async with serving(home) as service:
        before = await service.client.score(live(3))
        config = fit_config(source="warehouse 2026-11", seed=4)
        sent = await service.client.fits.send(
            {"x": ordinary(600, seed=71).numpy()}, config, chunk_bytes=4096
        )
        assert sent.state == pb.FIT_JOB_STATE_QUEUED
        job = await service.client.fits.wait(sent.job_id, poll_s=0.1)
        assert (job.state, job.revision, job.error) == (
            pb.FIT_JOB_STATE_CANDIDATE,
            "default@2",
            "",
        )
        listed = (await service.client.baselines()).baselines
        assert [(one.version, one.is_active) for one in listed] == [(2, False), (1, True)]
        after = await service.client.score(live(3))
        assert after.scores == before.scores
        assert after.baseline_revision == "default@1"
        await until(lambda: counted(service, "candidate") == 1)
    assert not list((home / "fits").glob("*/inputs"))


async def test_jobs_wait_their_turn_and_are_cancelled_queued_or_running(
    fitted: Path, tmp_path: Path
) -> None:
    home = copied(fitted, tmp_path)
    async with serving(home) as service:
        fits = service.client.fits
        first = await fits.send({"x": ordinary(4000, seed=72).numpy()}, chunk_bytes=50_000)
        second = await fits.send({"x": ordinary(4000, seed=73).numpy()}, chunk_bytes=50_000)
        while not (running := await fits.job(first.job_id)).stage:
            await asyncio.sleep(0.02)
        assert running.state == pb.FIT_JOB_STATE_RUNNING
        assert 0 <= running.done <= running.total
        assert (await fits.job(second.job_id)).state == pb.FIT_JOB_STATE_QUEUED
        for job in (second, first, first):
            assert (await fits.cancel(job.job_id)).state == pb.FIT_JOB_STATE_CANCELLED
        listed = (await fits.jobs()).jobs
        assert [(one.job_id, one.state) for one in listed] == [
            (second.job_id, pb.FIT_JOB_STATE_CANCELLED),
            (first.job_id, pb.FIT_JOB_STATE_CANCELLED),
        ]
    assert not list((home / "fits").glob("*/inputs"))
    events = [json.loads(line)["event"] for line in (home / "audit.jsonl").read_text().splitlines()]
    assert events.count("fit.committed") == 2
    assert events.count("fit.cancelled") == 2
    assert events.count("fit.ended") == 2


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_surprising_inputs_are_set_aside_counted_and_kept(
    fitted: Path, tmp_path: Path
) -> None:
    home = copied(fitted, tmp_path, extra="[fit]\nkept_jobs = 1\n")
    sent = ordinary(600, seed=74)
    sent[[3, 300, 599]] = anomalies(3)["x"]
    async with serving(home) as service:
        fits = service.client.fits
        job = await fits.send({"x": sent.numpy()}, fit_config(source="mixed"), chunk_bytes=8192)
        ended = await fits.wait(job.job_id, poll_s=0.1)
        assert ended.provenance.quarantined_inputs == 3
        rejected = {"model": "tiny", "reason": "quarantined"}
        assert service.sample("mad_fit_samples_rejected_total", **rejected) == 3
        kept = home / "fits" / job.job_id / "quarantined"
        assert load_file(kept / "rows")["rows"].tolist() == [3, 300, 599]
        assert torch.equal(load_file(kept / "inputs.safetensors")["x"], sent[[3, 300, 599]])
        (candidate, _) = (await service.client.baselines()).baselines
        assert candidate.reference_inputs == 150
        assert candidate.fit_inputs + candidate.weighing_inputs + 150 < 600
        await fits.wait((await fits.send({"x": sent[:9].numpy()})).job_id, poll_s=0.1)
        # One job is remembered, and this was before it.
        await until(lambda: not kept.exists())


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_job_goes_on_after_a_restart_and_is_made_once(fitted: Path, tmp_path: Path) -> None:
    home = copied(fitted, tmp_path)
    async with serving(home) as service:
        job = await service.client.fits.send({"x": ordinary(2000, seed=75).numpy()})
        while not (await service.client.fits.job(job.job_id)).stage:
            await asyncio.sleep(0.02)
    async with serving(home) as service:
        ended = await service.client.fits.wait(job.job_id, poll_s=0.1)
        assert (ended.state, ended.revision) == (pb.FIT_JOB_STATE_CANDIDATE, "default@2")
    # As if the server had been killed after the version was stored, and before it heard of it.
    file = home / "fits" / job.job_id / "job.json"
    written = json.loads(file.read_text())
    unheard = {"state": "running", "revision": "", "ended": None, "quarantined": 0}
    file.write_text(json.dumps({**written, **unheard}))
    async with serving(home) as service:
        again = await service.client.fits.wait(job.job_id, poll_s=0.1)
        assert (again.revision, again.provenance) == (ended.revision, ended.provenance)
        assert len((await service.client.baselines()).baselines) == 2


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_what_trained_the_dictionaries_calibrates_nothing(
    fitted: Path, tmp_path: Path
) -> None:
    home = copied(fitted, tmp_path)
    with (home / "model.py").open("a") as factory:
        factory.write('\n\nprint("a model of my own")\n')
    async with serving(home) as service:
        seen = {"x": ordinary(600, seed=1).numpy()}  # what the first baseline was fitted on
        job = await service.client.fits.send(seen, fit_config(seed=9))
        failed = await service.client.fits.wait(job.job_id, poll_s=0.1)
        assert failed.state == pb.FIT_JOB_STATE_FAILED
        assert "trained the dictionaries, so the false-alarm rate would not hold" in failed.error
        await until(lambda: counted(service, "failed") == 1)
