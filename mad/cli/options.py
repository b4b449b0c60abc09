"""Arguments and options that several verbs share."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

Config: TypeAlias = Annotated[
    Path, typer.Argument(help="Settings file, such as mad.toml.", show_default=False)
]
Inputs: TypeAlias = Annotated[
    Path,
    typer.Argument(
        help="Inputs as named arrays: .npz, .safetensors or .parquet.", show_default=False
    ),
]
Revision: TypeAlias = Annotated[
    str, typer.Option("--baseline", help="Baseline as name or name@version; default: the active.")
]
