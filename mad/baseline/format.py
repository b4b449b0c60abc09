"""The bytes of a baseline: ``manifest.json`` and ``arrays.safetensors``, both digested."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from mad import tensors
from mad.baseline import shapes
from mad.baseline.bundle import (
    NO_ROWS,
    UNKNOWN,
    Baseline,
    Manifest,
    Provenance,
    TrustedRows,
)
from mad.calibration.rarity import Rarity
from mad.calibration.weighing import Weighing
from mad.codes.accounting import CodedPart
from mad.codes.base import Code
from mad.codes.kinds import KINDS
from mad.codes.pairs import Origins
from mad.codes.sets.independent import IndependentCode
from mad.codes.sets.nearest import NearestSetsCode
from mad.errors import BaselineError
from mad.types import MEASURES

FORMAT = 2
WITH_PAIRS = 3
"""The format of bundles with a part of several views, which earlier versions would read wrongly;
all others are written as before, and both are read."""
MANIFEST = "manifest.json"
ARRAYS = "arrays.safetensors"


def encode(baseline: Baseline, provenance: Provenance = UNKNOWN) -> dict[str, bytes]:
    """Return the content of a bundle's files by name; last the manifest, which seals the rest."""
    arrays = {"references": baseline.references, "contexts": baseline.contexts}
    arrays |= {f"weighing.{name}": array for name, array in _weighing(baseline.weighing).items()}
    arrays |= {f"trusted.{name}": getattr(baseline.trusted, name) for name in _TRUSTED}
    rows = []
    for number, part in enumerate(baseline.parts):
        row, own = _written(part.code, prefix=f"part.{number}.")
        arrays |= own
        rows.append({"site": part.site, "term": part.term, **row})
        for name, code in (("marginal", part.marginal), ("memory", part.memory)):
            if code is not None:
                rows[-1][name], own = _written(code, prefix=f"part.{number}.{name}.")
                arrays |= own
        if part.origins is not None:
            rows[-1]["origins"] = part.origins.views
            arrays |= {
                f"part.{number}.origins.{name}": getattr(part.origins, name).clone()
                for name in _ORIGINS
            }
    content = tensors.serialise(arrays)
    manifest = {
        "format": WITH_PAIRS if any("origins" in row for row in rows) else FORMAT,
        "baseline": asdict(baseline.manifest) | {"created": baseline.manifest.created.isoformat()},
        "parts": rows,
        "arrays": {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)},
        "provenance": asdict(provenance),
    }
    sealed = manifest | {"digest": _seal(manifest)}
    return {ARRAYS: content, MANIFEST: json.dumps(sealed, indent=2).encode()}


def decode_manifest(content: bytes, *, name: str) -> tuple[Manifest, str, Provenance]:
    """Return the manifest, its digest and the provenance; ``name`` is for messages.

    The provenance is empty where it is unknown, as in versions made before it was kept.

    Raises:
        BaselineError: the manifest is damaged, was edited, or has an unknown format.
    """
    sealed = _open(content, name=name)
    with _described(name):
        row = sealed.get("provenance", {})
        provenance = _PROVENANCE.validate_json(json.dumps(row), strict=True)
        return _manifest(sealed["baseline"], name=name), sealed["digest"], provenance


def decode(files: Mapping[str, bytes], *, name: str) -> Baseline:
    """Return the baseline of a bundle's files. Raises BaselineError as ``decode_manifest``."""
    sealed = _open(files[MANIFEST], name=name)
    with _described(name):
        return _baseline(sealed, files[ARRAYS], name=name)


@contextmanager
def _described(name: str) -> Iterator[None]:
    """Refuse a manifest that is whole but lacks something, or has it of another type."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as cause:
        raise BaselineError(
            f"{name}/{MANIFEST} does not describe a baseline ({cause!r}); fit again"
        ) from cause


def _baseline(sealed: Mapping[str, Any], content: bytes, *, name: str) -> Baseline:
    if hashlib.sha256(content).hexdigest() != sealed["arrays"]["sha256"]:
        raise BaselineError(
            f"{name}: {ARRAYS} ({len(content)} bytes, {sealed['arrays']['bytes']} expected) is "
            "truncated or was changed since the fit; restore it from a copy or fit again"
        )
    arrays = tensors.parse_tensors(content, name=f"{name}/{ARRAYS}", error=BaselineError)
    parts = tuple(
        _part(row, f"part.{number}.", arrays, name=name)
        for number, row in enumerate(sealed["parts"])
    )
    manifest = _manifest(sealed["baseline"], name=name)
    references, contexts = arrays["references"], arrays["contexts"]
    trusted = _read_trusted(arrays)
    baseline = Baseline(manifest, parts, _read_weighing(arrays), references, contexts, trusted)
    shapes.check(baseline)
    columns = len(parts) + sum(part.marginal is not None for part in parts)
    found = (
        len(baseline.weighing.parts.scale),
        len(baseline.weighing.totals.scale),
        tuple(references.shape),
    )
    expected = (columns, len(MEASURES), (len(MEASURES), manifest.reference_inputs))
    if found != expected:
        raise BaselineError(
            f"{name}/{ARRAYS} does not fit the manifest: parts, totals and references number "
            f"{found}, and should number {expected}; fit again"
        )
    return baseline


def _open(content: bytes, *, name: str) -> dict[str, Any]:
    try:
        sealed: dict[str, Any] = json.loads(content, parse_constant=_number)
        found, version = sealed.pop("digest"), sealed["format"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as cause:
        raise BaselineError(
            f"{name}/{MANIFEST} is damaged ({cause}); restore it or fit again"
        ) from cause
    if version not in (FORMAT, WITH_PAIRS):
        raise BaselineError(
            f"{name} has bundle format {version}; this version reads formats {FORMAT} and "
            f"{WITH_PAIRS}: fit again, or run the version that wrote it"
        )
    if found != _seal(sealed):
        raise BaselineError(f"{name}/{MANIFEST} was edited since the fit; restore it or fit again")
    return sealed | {"digest": found}


def _number(constant: str) -> float:
    """Read what JSON itself does not have: infinity, which a threshold may be, but not NaN."""
    if constant == "NaN":
        raise ValueError("it holds NaN")
    return float(constant)


def _seal(manifest: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _manifest(row: Mapping[str, Any], *, name: str) -> Manifest:
    known = {field.name for field in fields(Manifest)}
    if set(row) != known:
        raise BaselineError(f"{name}/{MANIFEST} differs in {sorted(set(row) ^ known)}; fit again")
    try:
        return _MANIFEST.validate_json(json.dumps(row), strict=True)
    except ValidationError as cause:
        first = cause.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BaselineError(
            f"{name}/{MANIFEST} does not describe a baseline ({where}: {first['msg']}); fit again"
        ) from cause


_MANIFEST = TypeAdapter(Manifest)
_PROVENANCE = TypeAdapter(Provenance)


_TRUSTED = ("rows", "digests")


def _read_trusted(arrays: Mapping[str, Tensor]) -> TrustedRows:
    """Read which trusted inputs are named; versions made before they were kept have none."""
    if "trusted.rows" not in arrays:
        return NO_ROWS
    trusted = TrustedRows(*(arrays[f"trusted.{name}"] for name in _TRUSTED))
    shapes.check(trusted)
    return trusted


_WEIGHING = ("place", "of_mechanism", "power")


def _weighing(weighing: Weighing) -> dict[str, Tensor]:
    rarities = {"parts": weighing.parts, "totals": weighing.totals}
    return {
        f"{name}.{field.name}": getattr(rarity, field.name)
        for name, rarity in rarities.items()
        for field in fields(rarity)
    } | {name: getattr(weighing, name) for name in _WEIGHING}


def _read_weighing(arrays: Mapping[str, Tensor]) -> Weighing:
    parts, totals = (
        Rarity(*(arrays[f"weighing.{name}.{field.name}"] for field in fields(Rarity)))
        for name in ("parts", "totals")
    )
    weighing = Weighing(parts, totals, *(arrays[f"weighing.{name}"] for name in _WEIGHING))
    for one in (parts, totals, weighing):
        shapes.check(one)
    return weighing


def _part(
    row: Mapping[str, Any], prefix: str, arrays: Mapping[str, Tensor], *, name: str
) -> CodedPart:
    extra = {
        companion: _read(row[companion], f"{prefix}{companion}.", arrays, name=name)
        for companion in ("marginal", "memory")
        if companion in row
    }
    marginal, memory = extra.get("marginal"), extra.get("memory")
    if not isinstance(marginal, IndependentCode | None) or not isinstance(
        memory, NearestSetsCode | None
    ):
        raise BaselineError(f"{name} has companion codes of another kind; fit again")
    code = _read(row, prefix, arrays, name=name)
    origins = _read_origins(row, prefix, arrays, code)
    return CodedPart(row["site"], row["term"], code, marginal, memory, origins)


_ORIGINS = ("view", "index")


def _read_origins(
    row: Mapping[str, Any], prefix: str, arrays: Mapping[str, Tensor], code: Code
) -> Origins | None:
    """Read whose components a part of several views has; None for a part of one view."""
    if "origins" not in row:
        return None
    found = (arrays[f"{prefix}origins.{name}"] for name in _ORIGINS)
    origins = Origins(tuple(row["origins"]), *found)
    shapes.check(origins)
    known = code.typical(torch.tensor([-1])).shape[1]
    if len(origins.view) != known or not 0 <= int(origins.view.amax()) < len(origins.views):
        raise ValueError("a part of several views has components of none of them")
    return origins


def _written(code: Code, *, prefix: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return a code's row of the manifest, and its arrays with those of the codes it is made of."""
    arrays: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    codes: dict[str, list[dict[str, Any]]] = {}
    for name, value in _values(code):
        if isinstance(value, Tensor):
            # Codes fitted together may share a tensor, and safetensors refuses to write one twice.
            arrays[prefix + name] = value.clone()
        elif isinstance(value, tuple):
            inner = [
                _written(one, prefix=f"{prefix}{name}.{number}.")
                for number, one in enumerate(value)
            ]
            codes[name] = [row for row, _ in inner]
            arrays |= {key: array for _, own in inner for key, array in own.items()}
        else:
            numbers[name] = value
    kind = next(name for name, kind in KINDS.items() if kind is type(code))
    return {"kind": kind, "numbers": numbers} | ({"codes": codes} if codes else {}), arrays


def _read(row: Mapping[str, Any], prefix: str, arrays: Mapping[str, Tensor], *, name: str) -> Code:
    """Return the code of a row; ``name`` is the bundle's, for messages."""
    if row["kind"] not in KINDS:
        raise BaselineError(f"{name} uses code {row['kind']!r}, which this version does not know")
    codes = {
        field: tuple(
            _read(inner, f"{prefix}{field}.{number}.", arrays, name=name)
            for number, inner in enumerate(rows)
        )
        for field, rows in row.get("codes", {}).items()
    }
    own = {
        key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)
    }
    flat = {field: array for field, array in own.items() if "." not in field}
    code = KINDS[row["kind"]](**flat, **row["numbers"], **codes)
    shapes.check(code)
    return code


def _values(code: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401  # kinds are dataclasses
    return ((field.name, getattr(code, field.name)) for field in fields(code))
