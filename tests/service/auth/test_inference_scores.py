"""Who runs the model by the Open Inference Protocol reads no scores but by a role of their own."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from mad.service.auth.guard import Access
from mad.service.oip import inference_pb2 as pb
from tests.oip.asking import output, raw
from tests.service.auth.conftest import bearer, write_principals
from tests.service.running import Running, anomalies, running
from tests.worlds import World

SERVICE = "/inference.GRPCInferenceService"
SCORES = {
    "mad.surprise_bits",
    "mad.mechanism_bits",
    "mad.novelty_bits",
    "mad.p_value",
    "mad.is_alert",
}


@pytest.fixture
async def served(world: World, tmp_path: Path) -> AsyncIterator[Running]:
    roles = {
        "runs": ["infer"],
        "coarse": ["infer", "score.coarse"],
        "fine": ["infer", "score.read"],
        "reads": ["score.read"],
    }
    access = Access(principals=write_principals(tmp_path / "tokens.toml", roles))
    async with running(world, tmp_path, access=access) as service:
        yield service


async def infer(
    service: Running, name: str, request: pb.ModelInferRequest
) -> pb.ModelInferResponse:
    call: Any = service.channel.unary_unary(
        f"{SERVICE}/ModelInfer",
        request_serializer=pb.ModelInferRequest.SerializeToString,
        response_deserializer=pb.ModelInferResponse.FromString,
    )
    answer: pb.ModelInferResponse = await call(request, metadata=bearer(name), timeout=30)
    return answer


async def test_scores_come_to_those_who_may_read_them_as_they_may(served: Running) -> None:
    request = raw(anomalies(2))
    runs, coarse, fine = [await infer(served, name, request) for name in ("runs", "coarse", "fine")]
    own = {each.name for each in runs.outputs}
    assert not own & SCORES
    assert not runs.parameters
    assert {each.name for each in coarse.outputs} == own | SCORES
    assert {each.name for each in fine.outputs} == own | SCORES
    for name in own:
        assert np.array_equal(output(coarse, name), output(runs, name))
    for name in ("mad.surprise_bits", "mad.mechanism_bits", "mad.novelty_bits"):
        assert output(coarse, name).tolist() == [4 * (b // 4) for b in output(fine, name).tolist()]
    assert np.isnan(output(coarse, "mad.p_value")).all()
    assert output(coarse, "mad.is_alert").tolist() == [True, True]


@pytest.mark.parametrize(
    ("name", "outputs"),
    [("runs", ["mad.surprise_bits"]), ("reads", []), ("reads", ["mad.p_value"])],
)
async def test_who_lacks_a_role_is_denied(served: Running, name: str, outputs: list[str]) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await infer(served, name, raw(anomalies(), *outputs))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(("name", "is_listed"), [("runs", False), ("coarse", True), ("fine", True)])
async def test_metadata_lists_scores_to_those_who_may_read_them(
    served: Running, name: str, *, is_listed: bool
) -> None:
    call: Any = served.channel.unary_unary(
        f"{SERVICE}/ModelMetadata", response_deserializer=pb.ModelMetadataResponse.FromString
    )
    request = pb.ModelMetadataRequest(name="tiny").SerializeToString()
    answer = await call(request, metadata=bearer(name), timeout=30)
    assert ({each.name for each in answer.outputs} >= SCORES) == is_listed
