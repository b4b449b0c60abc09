"""Trusted streams with planted anomalies in them are refused at the gates; clean ones are not."""

from pathlib import Path

import grpc
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mad.client import fit_config
from mad.v1 import baselines_pb2 as pb
from tests.service.deployed import copied, serving
from tests.service.running import Running
from tests.worlds import ordinary, strange

GATES = """
[promotion]
trusted = ["held_out.safetensors"]
canaries = ["canaries.safetensors"]
"""
INPUTS = 1200


def poisoned(share: float) -> Tensor:
    """Mix planted anomalies into ordinary inputs, in no order."""
    bad = round(share * INPUTS)
    mixed = torch.cat([ordinary(INPUTS - bad, seed=61), strange(bad, seed=62)])
    return mixed[torch.randperm(INPUTS, generator=torch.Generator().manual_seed(0))]


async def detected(service: Running) -> float:
    scores = (await service.client.score({"x": strange(64, seed=63)})).scores
    return sum(score.verdict.is_alert for score in scores) / len(scores)


async def candidate(service: Running, share: float) -> pb.FitJob:
    sent = await service.client.fits.send(
        {"x": poisoned(share).numpy()}, fit_config(source=f"{share:.0%} poison")
    )
    job = await service.client.fits.wait(sent.job_id, poll_s=0.1)
    assert job.state == pb.FIT_JOB_STATE_CANDIDATE, job.error
    return job


@pytest.fixture
def home(fitted: Path, tmp_path: Path) -> Path:
    home = copied(fitted, tmp_path, extra=GATES)
    save_file({"x": ordinary(300, seed=64)}, home / "held_out.safetensors")
    save_file({"x": strange(100, seed=65)}, home / "canaries.safetensors")
    return home


async def promoted(service: Running, revision: str) -> bool:
    """Ask for a promotion, and say whether the gates let the version through."""
    try:
        await service.client.baseline.PromoteBaseline(pb.PromoteBaselineRequest(revision=revision))
    except grpc.aio.AioRpcError as error:
        if "does not pass" not in str(error.details()):
            raise
        return False
    return True


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_poison_is_set_aside_and_its_candidate_is_refused(home: Path) -> None:
    async with serving(home) as service:
        assert await detected(service) == 1
        for share in (0.01, 0.02, 0.05, 0.1):
            job = await candidate(service, share)
            assert job.provenance.quarantined_inputs >= share * INPUTS
            assert not await promoted(service, job.revision)
            assert await detected(service) == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_clean_candidate_scores_once_it_is_promoted(home: Path) -> None:
    async with serving(home) as service:
        job = await candidate(service, 0.0)
        inputs = {"x": ordinary(5, seed=66)}
        before = await service.client.score(inputs)
        assert before.baseline_revision == "default@1"
        evaluated = await service.client.baseline.EvaluateBaseline(
            pb.EvaluateBaselineRequest(revision=job.revision)
        )
        assert evaluated.is_promotable, evaluated.gates
        promoted = await service.client.baseline.PromoteBaseline(
            pb.PromoteBaselineRequest(revision=job.revision, expected_revision="default@1")
        )
        assert promoted.previous_revision == "default@1"
        assert promoted.baseline.provenance.job_id == job.job_id
        after = await service.client.score(inputs)
        assert after.baseline_revision == job.revision
        assert after.scores != before.scores
