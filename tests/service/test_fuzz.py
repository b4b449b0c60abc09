"""Whatever bytes arrive, the answer is a status that means something, and the server serves on."""

from typing import Any

import grpc
from hypothesis import HealthCheck, given, settings, strategies as st

from mad.client import request
from mad.v1 import scoring_pb2 as pb
from tests.service.running import Running, live

SCORE = request(live(2), request_id="fuzz", baseline="tiny").SerializeToString()
EXPLAIN = pb.ExplainRequest(inputs=request(live(1)).inputs, max_charges=3).SerializeToString()
ODD = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE}


@st.composite
def mutated(draw: st.DrawFn, whole: bytes) -> bytes:
    """Overwrite, drop, repeat or insert some bytes of a good message."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        stop = draw(st.integers(start, min(len(content), start + 8)))
        content[start:stop] = draw(st.binary(max_size=8))
    return bytes(content)


async def status(service: Running, method: str, content: bytes) -> grpc.StatusCode:
    ask: Any = service.channel.unary_unary(f"/mad.v1.ScoringService/{method}")
    code: grpc.StatusCode = await ask(content).code()
    return code


FUZZ = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(content=mutated(SCORE))
async def test_a_mutated_score_request_has_a_meaningful_answer(
    service: Running, content: bytes
) -> None:
    assert await status(service, "Score", content) not in ODD


@FUZZ
@given(content=mutated(EXPLAIN))
async def test_a_mutated_explain_request_has_a_meaningful_answer(
    service: Running, content: bytes
) -> None:
    assert await status(service, "Explain", content) not in ODD


@FUZZ
@given(content=st.binary(max_size=200))
async def test_arbitrary_bytes_have_a_meaningful_answer(service: Running, content: bytes) -> None:
    assert await status(service, "Score", content) not in ODD
