"""Tensors' axes, and all other types, are checked on every call in tests.

Modules that handle tensors are imported with a decorator on each of their functions and
dataclasses. jaxtyping's own hook would do, but checks arguments twice and binds them to their names
before, which took more than a third of the processor time of all tests. Here beartype checks a call
once, in a frame of its own for the sizes of axes.
"""

import ast
import dataclasses
import functools
import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from hashlib import sha256
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Final, TypeVar, cast, get_args
from unittest.mock import patch

from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray, jaxtyped

ROOMS: Final = (
    *("mad.tensors", "mad.types", "mad.arrays", "mad.capture", "mad.components", "mad.codes"),
    *("mad.calibration", "mad.streams", "mad.counterfactual", "mad.effects", "mad.judgement"),
    *("mad.scoring", "mad.fit", "mad.payloads", "mad.monitor", "mad.promotion", "mad.rendering"),
    *("mad.report", "mad.sidecar"),
)
Of = TypeVar("Of")
_beartype: Final = beartype(conf=BeartypeConf(violation_type=TypeError))
"""Violations are of the type that functions of torch and Python raise for such arguments."""
_NAME: Final = "checked_on_every_call"
_IMPORT: Final = ast.parse(f"from tests.checked import checked as {_NAME}").body[0]
_TAG: Final = "checked" + sha256(Path(__file__).read_bytes()).hexdigest()[:16]
"""Of compiled modules, beside those that are not checked."""


def install() -> None:
    """Check what is imported from now on, which must be all of it."""
    early = sorted(name for name in sys.modules if _is_checked(name))
    assert not early, f"imported before they could be checked: {early}"
    sys.meta_path.insert(0, _Finder())


def checked(of: Of) -> Of:
    """Return a function that checks each call, or a dataclass that checks its fields."""
    if isinstance(of, FunctionType):
        return cast("Of", _function(of))
    if dataclasses.is_dataclass(of):
        made = vars(of).get("__init__")
        if isinstance(made, FunctionType) and not hasattr(made, "__wrapped__"):
            setattr(of, "__init__", _function(made))  # noqa: B010  # mypy forbids the other way
    return of


def _function(of: FunctionType) -> Callable[..., object]:
    within: Callable[..., object] = _beartype(of)
    if not any(map(_has_axes, of.__annotations__.values())):
        return within

    @functools.wraps(of)
    def call(*args: object, **kwargs: object) -> object:
        with jaxtyped("context"):
            return within(*args, **kwargs)

    return call


def _has_axes(hint: object) -> bool:
    # What is still a name may stand for anything.
    if isinstance(hint, str):
        return True
    return (inspect.isclass(hint) and issubclass(hint, AbstractArray)) or any(
        map(_has_axes, get_args(hint))
    )


def _is_checked(name: str) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in ROOMS)


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module that is to be checked; leave others to others."""
        spec = PathFinder.find_spec(fullname, path, target) if _is_checked(fullname) else None
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType | None:
        """Keep compiled code apart from what is not checked."""
        apart = functools.partial(importlib.util.cache_from_source, optimization=_TAG)
        # As in jaxtyping's own hook: nothing else says where compiled code is kept.
        with patch("importlib._bootstrap_external.cache_from_source", apart):
            return super().get_code(fullname)

    def source_to_code(  # type: ignore[override]  # typeshed knows that of another base
        self, data: bytes, path: str, *, _optimize: int = -1
    ) -> CodeType:
        """Compile a module with the decorator on all its functions and classes."""
        tree = ast.parse(data, path)
        is_said = isinstance(tree.body[0], ast.Expr)
        tree.body.insert(int(is_said), _IMPORT)
        for node in ast.walk(tree):
            # Innermost, where annotations are whole; outermost, where dataclasses are made.
            if isinstance(node, ast.FunctionDef):
                node.decorator_list.append(_decorator(node))
            elif isinstance(node, ast.ClassDef):
                node.decorator_list.insert(0, _decorator(node))
        whole = ast.fix_missing_locations(tree)
        return compile(whole, path, "exec", dont_inherit=True, optimize=_optimize)


def _decorator(node: ast.FunctionDef | ast.ClassDef) -> ast.expr:
    return ast.copy_location(ast.Name(_NAME, ast.Load()), node)
