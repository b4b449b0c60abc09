"""The model as callers of the protocol see it: its name and version, what it takes and returns."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, final

import torch

from mad.baseline.bundle import Manifest
from mad.capture.hooks import Outputs
from mad.errors import BaselineNotFoundError
from mad.service.oip import inference_pb2 as pb
from mad.service.oip.tensors import carried, datatype_of
from mad.service.raw import shown

SERVICE: Final = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
ONLY_VERSION: Final = "1"
_PLATFORM: Final = "pytorch_mad"
_TENSOR: Final = pb.ModelMetadataResponse.TensorMetadata


@final
@dataclass(frozen=True, slots=True)
class ServedName:
    """What callers call the model; an empty ``version`` stands for any."""

    model: str
    version: str

    def is_named(self, model: str, version: str) -> bool:
        """Tell whether a caller means this one; a version may be left out."""
        return model == self.model and (version in ("", self.version) or not self.version)

    def check(self, model: str, version: str) -> None:
        """Raise BaselineNotFoundError for another model or version."""
        if not self.is_named(model, version):
            mine = f"{self.model!r}, version {self.version!r}" if self.version else repr(self.model)
            raise BaselineNotFoundError(
                f"model {shown(model)}, version {shown(version)}, is not served here; this server "
                f"has {mine}"
            )


@final
@dataclass(eq=False)
class Signature:
    """What the model takes and returns; what it returns is known once it was warmed up."""

    inputs: tuple[pb.ModelMetadataResponse.TensorMetadata, ...]
    _outputs: Mapping[str, pb.ModelMetadataResponse.TensorMetadata] = field(default_factory=dict)
    _seen: asyncio.Event = field(default_factory=asyncio.Event)

    @staticmethod
    def of(manifest: Manifest) -> "Signature":
        """Return the signature of a model that has not run yet."""
        return Signature(
            tuple(
                _TENSOR(
                    name=spec.name,
                    datatype=datatype_of(getattr(torch, spec.dtype)),
                    shape=(-1, *spec.shape),
                )
                for spec in manifest.inputs
            )
        )

    def ran(self, outputs: Outputs) -> None:
        """Learn from the outputs of one input."""
        self._outputs = {
            name: _TENSOR(
                name=name,
                datatype=datatype_of(output.dtype),
                shape=(-1, *output.shape[1:]) if output.shape[:1] == (1,) else output.shape,
            )
            for name, output in carried(outputs).items()
        }
        self._seen.set()

    async def outputs(self) -> Mapping[str, pb.ModelMetadataResponse.TensorMetadata]:
        """Return what the model returns, by name, as soon as it is known."""
        if not self._seen.is_set():
            await self._seen.wait()
        return self._outputs

    async def metadata(self, name: ServedName) -> pb.ModelMetadataResponse:
        """Describe the model."""
        return pb.ModelMetadataResponse(
            name=name.model,
            versions=[name.version],
            platform=_PLATFORM,
            inputs=self.inputs,
            outputs=(await self.outputs()).values(),
        )
