"""Files that somebody who wishes us ill would leave where a deployment reads."""

import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

RAN = "ran.txt"
"""Made in the working directory by what was hidden in a file, should anybody run it."""


class _Runs:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path(RAN),)


def pickled() -> bytes:
    """Return a pickle that leaves a trace when it is opened."""
    return pickle.dumps(_Runs())


def torch_archive() -> bytes:
    """Return what ``torch.save`` writes, with such a pickle inside."""
    content = BytesIO()
    torch.save({"0.weight": _Runs()}, content)
    return content.getvalue()


def exported() -> bytes:
    """Return a ``.pt2`` archive whose constants and weights are such pickles."""
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("model/archive_format", "pt2")
        archive.writestr("model/models/model.json", "{}")
        for name in ("weights/model.pt", "constants/model.pt", "sample_inputs/model.pt"):
            archive.writestr(f"model/data/{name}", pickled())
    return content.getvalue()


def headed(header: object, numbers: bytes = b"", *, promised: int | None = None) -> bytes:
    """Return a safetensors file with a header of our own, of the length it promises or another."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if promised is None else promised) + text + numbers


def _one(shape: list[int], offsets: list[int], dtype: str = "F32") -> dict[str, object]:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


HEADERS: Mapping[str, bytes] = {
    "a header of 2**40 bytes": headed({}, promised=2**40),
    "a header of 2**63 bytes": headed({}, promised=2**63),
    "a header longer than the file": headed({}, promised=4096),
    "no header": b"",
    "a header that is nested": struct.pack("<Q", 200_000) + b"[" * 200_000,
    "a header that is no text": struct.pack("<Q", 4) + b"{\xff\xfe}",
    "arrays that overlap": headed(
        _one([2], [0, 8]) | {"b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}},
        bytes(12),
    ),
    "an array beyond the end": headed(_one([2], [0, 8]), bytes(4)),
    "an array that ends before it begins": headed(_one([2], [8, 0]), bytes(8)),
    "a negative offset": headed(_one([2], [-8, 0]), bytes(8)),
    "an offset of 2**64": headed(_one([2], [2**64, 2**64 + 8]), bytes(8)),
    "a shape of 2**64 numbers": headed(_one([2**62, 4], [0, 8]), bytes(8)),
    "a shape that is no number of torch's": headed(_one([0, 2**63], [0, 0])),
    "an element type of nobody's": headed(_one([2], [0, 8], "F128"), bytes(8)),
    "a type that numbers cannot have": headed(_one([2], [0, 1], "F4"), b"\xff"),
}

CODE: Mapping[str, Callable[[], bytes]] = {
    "a pickle": pickled,
    "a torch archive": torch_archive,
    "a .pt2": exported,
}


def spoiled(path: Path, value: float) -> None:
    """Put a number into every array of a safetensors file."""
    tensors = load_file(path)
    for tensor in tensors.values():
        if tensor.is_floating_point() and tensor.numel():
            tensor.view(-1)[-1] = value
    save_file(tensors, path)


def bomb(path: Path, *, shape: str, size: int) -> None:
    """Write an ``.npz`` of a few kilobytes with an array ``x`` of ``size`` zero bytes.

    Its header says it has ``shape``.
    """
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as member,
    ):
        member.write(np.lib.format.magic(1, 0) + struct.pack("<H", len(header)) + header.encode())
        for _ in range(size // 2**20):
            member.write(bytes(2**20))
