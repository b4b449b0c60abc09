"""An echo model in MLServer, on the port given; run with the Python of MLServer's environment.

It imports nothing of ours. The model runs in the server's own process, as MLServer's fastest way.
"""

import asyncio
import sys

from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class Echo(MLModel):  # type: ignore[misc]  # MLServer has no types here
    """Answers with what it was asked."""

    async def load(self) -> bool:
        """Be ready."""
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Return the inputs as outputs."""
        return InferenceResponse(
            model_name=self.name,
            id=payload.id,
            outputs=[
                ResponseOutput(name="output", shape=one.shape, datatype=one.datatype, data=one.data)
                for one in payload.inputs
            ],
        )


async def main(port: int) -> None:
    """Serve until killed."""
    settings = Settings(
        host="127.0.0.1",
        grpc_port=port,
        http_port=port + 1,
        metrics_port=port + 2,
        parallel_workers=0,
        load_models_at_startup=False,
        debug=False,
    )
    server = MLServer(settings)
    await server.start([ModelSettings(name="echo", implementation=Echo)])


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
