"""Calls about the versions of a baseline: look, examine, promote, go back, delete."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, final

from mad.v1 import baselines_pb2 as pb, baselines_pb2_grpc as rpc

if TYPE_CHECKING:
    from mad.v1.baselines_pb2_grpc import BaselineServiceAsyncStub

GateAnswer: TypeAlias = pb.Gate
EXAM_TIMEOUT_S: Final = 600.0
"""What an examination or a promotion may take: the model runs when live traffic leaves it free."""


@final
@dataclass(frozen=True)
class VersionCalls:
    """Versions of a running server. ``expected`` is what an alias must be at now, or "none"."""

    stub: rpc.BaselineServiceStub
    timeout_s: float

    def get(self, revision: str) -> pb.Baseline:
        """Return one version; a name alone stands for its active one."""
        message = pb.GetBaselineRequest(revision=revision)
        return self.stub.GetBaseline(message, timeout=self.timeout_s).baseline

    def evaluate(self, revision: str) -> pb.EvaluateBaselineResponse:
        """Hold a version against the gates of promotion."""
        message = pb.EvaluateBaselineRequest(revision=revision)
        return self.stub.EvaluateBaseline(message, timeout=EXAM_TIMEOUT_S)

    def promote(
        self, revision: str, *, alias: str = "active", expected: str = ""
    ) -> pb.PromoteBaselineResponse:
        """Point an alias, active or shadow, at a version that passes every gate."""
        message = pb.PromoteBaselineRequest(
            revision=revision, alias=alias, expected_revision=expected
        )
        return self.stub.PromoteBaseline(message, timeout=EXAM_TIMEOUT_S)

    def roll_back(self, name: str = "", *, expected: str = "") -> pb.RollbackBaselineResponse:
        """Make the version active that was so before; no name means the server's own."""
        message = pb.RollbackBaselineRequest(name=name, expected_revision=expected)
        return self.stub.RollbackBaseline(message, timeout=self.timeout_s)

    def delete(self, revision: str) -> pb.DeleteBaselineResponse:
        """Remove a version that no alias points at."""
        message = pb.DeleteBaselineRequest(revision=revision)
        return self.stub.DeleteBaseline(message, timeout=self.timeout_s)


@final
@dataclass(frozen=True)
class AsyncVersionCalls:
    """The same as ``VersionCalls``, for asyncio."""

    stub: "BaselineServiceAsyncStub"
    timeout_s: float

    async def get(self, revision: str) -> pb.Baseline:
        """Return one version; a name alone stands for its active one."""
        message = pb.GetBaselineRequest(revision=revision)
        return (await self.stub.GetBaseline(message, timeout=self.timeout_s)).baseline

    async def evaluate(self, revision: str) -> pb.EvaluateBaselineResponse:
        """Hold a version against the gates of promotion."""
        message = pb.EvaluateBaselineRequest(revision=revision)
        return await self.stub.EvaluateBaseline(message, timeout=EXAM_TIMEOUT_S)

    async def promote(
        self, revision: str, *, alias: str = "active", expected: str = ""
    ) -> pb.PromoteBaselineResponse:
        """Point an alias, active or shadow, at a version that passes every gate."""
        message = pb.PromoteBaselineRequest(
            revision=revision, alias=alias, expected_revision=expected
        )
        return await self.stub.PromoteBaseline(message, timeout=EXAM_TIMEOUT_S)

    async def roll_back(self, name: str = "", *, expected: str = "") -> pb.RollbackBaselineResponse:
        """Make the version active that was so before; no name means the server's own."""
        message = pb.RollbackBaselineRequest(name=name, expected_revision=expected)
        return await self.stub.RollbackBaseline(message, timeout=self.timeout_s)

    async def delete(self, revision: str) -> pb.DeleteBaselineResponse:
        """Remove a version that no alias points at."""
        message = pb.DeleteBaselineRequest(revision=revision)
        return await self.stub.DeleteBaseline(message, timeout=self.timeout_s)
