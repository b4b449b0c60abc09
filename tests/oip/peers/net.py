"""The tiny world's model in numpy, for MLServer to run: weights in a file, layers as outputs."""

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Net(MLModel):  # type: ignore[misc]  # untyped here
    """Returns logits and both hidden layers, or those that are asked for."""

    async def load(self) -> bool:
        assert self.settings.parameters is not None
        with np.load(str(self.settings.parameters.uri)) as weights:
            self.weights = dict(weights)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        values = NumpyCodec.decode_input(payload.inputs[0])
        layers = {}
        for number, name in ((0, "layer_one"), (2, "layer_three"), (4, "logits")):
            values = values @ self.weights[f"{number}.weight"].T + self.weights[f"{number}.bias"]
            layers[name] = values = np.maximum(values, 0) if number < 4 else values
        asked = [output.name for output in payload.outputs or ()] or list(layers)
        outputs = [NumpyCodec.encode_output(name, layers[name]) for name in asked]
        return InferenceResponse(model_name=self.name, id=payload.id, outputs=outputs)
