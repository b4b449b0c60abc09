"""Whoever may only infer gets what the model returns, and learns nothing of scores."""

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

INFER = ["infer"]
ROLES = {
    "plain": INFER,
    "reader": [*INFER, "score.read"],
    "coarse": [*INFER, "score.coarse"],
    "scorer": ["score.read"],
}


async def call(
    service: Running, who: str, request: Any, answer: Any, *, method: str = "ModelInfer"
) -> Any:
    stub: Any = service.channel.unary_unary(
        f"/inference.GRPCInferenceService/{method}", response_deserializer=answer.FromString
    )
    return await stub(request.SerializeToString(), metadata=bearer(who), timeout=20)


async def test_scores_go_to_those_who_may_read_them(world: World, tmp_path: Path) -> None:
    access = Access(principals=write_principals(tmp_path / "tokens.toml", ROLES))
    request = raw(anomalies(2))
    named = raw(anomalies(2), "mad.p_value")
    metadata = pb.ModelMetadataRequest(name="tiny")
    async with running(world, tmp_path, access=access) as service:
        plain, reader, coarse = [
            await call(service, who, request, pb.ModelInferResponse)
            for who in ("plain", "reader", "coarse")
        ]
        described = await call(
            service, "plain", metadata, pb.ModelMetadataResponse, method="ModelMetadata"
        )
        with pytest.raises(grpc.aio.AioRpcError) as by_name:
            await call(service, "plain", named, pb.ModelInferResponse)
        with pytest.raises(grpc.aio.AioRpcError) as without_role:
            await call(service, "scorer", request, pb.ModelInferResponse)
        scored = {"model": "tiny", "baseline": "tiny", "traffic": "live"}
        assert service.sample("mad_inputs_scored_total", **scored) == 6
    assert [each.name for each in plain.outputs] == ["output"]
    assert not plain.parameters
    assert [each.name for each in described.outputs] == ["output"]
    assert plain.raw_output_contents[0] == reader.raw_output_contents[0]
    assert len(reader.outputs) == len(coarse.outputs) == 6
    fine = output(reader, "mad.surprise_bits")
    assert np.array_equal(output(coarse, "mad.surprise_bits"), 4 * np.floor(fine / 4))
    assert np.isnan(output(coarse, "mad.p_value")).all()
    assert by_name.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "needs the role score.read" in str(by_name.value.details())
    assert without_role.value.code() is grpc.StatusCode.PERMISSION_DENIED
