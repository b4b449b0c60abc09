"""The baseline servicer: what is in the store, and what of it this server has loaded."""

import asyncio
from dataclasses import dataclass
from typing import final

from mad.baseline.store import BaselineStore
from mad.service import convert
from mad.service.calls import Context
from mad.service.registry import Registry
from mad.v1 import baselines_pb2 as pb, baselines_pb2_grpc as rpc


@final
@dataclass(frozen=True)
class BaselineServicer(rpc.BaselineServiceServicer):
    """Answers ListBaselines."""

    store: BaselineStore
    registry: Registry

    async def ListBaselines(
        self, request: pb.ListBaselinesRequest, context: Context
    ) -> pb.ListBaselinesResponse:
        """Return every version by name, newest first; none for a name that is not there."""
        # All are read and then filtered: a name from a request never becomes a path.
        entries = await asyncio.to_thread(self.store.entries)
        loaded = {monitor.baseline.revision for monitor in self.registry.monitors}
        return pb.ListBaselinesResponse(
            baselines=(
                convert.baseline(entry, is_loaded=entry.manifest.revision in loaded)
                for entry in entries
                if request.name in ("", entry.manifest.name)
            )
        )
