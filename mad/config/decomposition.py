"""Settings of dictionaries: which sites are watched, and how each dictionary is trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self, final

from pydantic import Field, model_validator

from mad.config.fields import Count, File, Names, Part, Seconds, Section, Suffix


class Recipe(Section):
    """How to train one dictionary at each site."""

    sites: Names
    kind: Literal[
        "topk",
        "batch_topk",
        "jumprelu",
        "relu",
        "lp",
        "gated",
        "matryoshka",
        "switch",
        "bits",
    ] = "topk"
    width: Count = 512
    k: Count = 4
    steps: Count = 1000
    batch_size: Count = 512
    learning_rate: Annotated[float, Field(gt=0, strict=True)] | None = None
    initial: Literal["data", "random", "pca"] = "data"
    dead: Literal["auxiliary", "resample", "none"] = "auxiliary"
    p: Annotated[float, Field(gt=0, lt=1, strict=True)] = 0.5
    prefixes: Annotated[tuple[Part, ...], Field(min_length=1)] = (0.125, 0.25, 0.5, 1.0)
    experts: Count = 8
    active_experts: Count = 1
    always_on: Annotated[bool, Field(strict=True)] = False
    resolution: Annotated[float, Field(gt=0, strict=True)] = 0.01
    pooling: Literal["auto", "flatten", "mean", "max", "mean_max", "last"] = "auto"
    positions: Literal["pooled", "all"] = "pooled"
    form: Literal["autoencoder", "transcoder", "skip_transcoder", "crosscoder"] = "autoencoder"
    sources: tuple[str, ...] = ()
    objective: Literal["reconstruction", "end_to_end"] = "reconstruction"
    search: Annotated[bool, Field(strict=True)] = True
    suffix: Suffix | None = None

    @model_validator(mode="after")
    def _its_numbers_go_together(self) -> Self:
        if self.k > self.width:
            raise ValueError(f"k = {self.k} must be at most width = {self.width}")
        if self.kind == "switch" and self.active_experts > self.experts:
            raise ValueError(
                f"active_experts = {self.active_experts} must be at most experts = {self.experts}"
            )
        if self.form.endswith("transcoder") != bool(self.sources):
            raise ValueError(
                f"form = {self.form!r} with sources = {list(self.sources)}: transcoders, and they "
                "alone, name the site that each of theirs is explained from"
            )
        if self.objective == "end_to_end" and self.form != "autoencoder":
            raise ValueError(f"objective = 'end_to_end' is for autoencoders, not a {self.form}")
        return self


@final
class Decomposition(Recipe):
    """Sites to watch, and the directory of their dictionaries with the plan to train them.

    With tables in ``dictionary``, each trains one of its own at each site, in the same pass; what a
    table leaves out is as in the section.
    """

    path: File = Path("dictionaries")
    activations: tuple[File, ...] = ()
    buffer_mb: Count = 2048
    checkpoint_seconds: Seconds = 20.0
    dictionary: tuple[Recipe, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _tables_inherit(cls, value: object) -> object:
        tables = value.get("dictionary") if isinstance(value, Mapping) else None
        if not isinstance(tables, list) or not isinstance(value, Mapping):
            return value
        own = {key: one for key, one in value.items() if key in Recipe.model_fields}
        merged = [
            # Only the first of several is searched beside, unless another says so itself.
            {**own, **({"search": False} if number else {}), **table}
            if isinstance(table, Mapping)
            else table
            for number, table in enumerate(tables)
        ]
        return {**value, "dictionary": merged}

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The tables, or the section itself where there are none."""
        return self.dictionary or (self,)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """What names the views of each recipe: none of the first, how they differ of others."""
        first, *others = self.recipes
        names = [first.suffix or ""]
        for one in others:
            name = _difference(first, one) if one.suffix is None else one.suffix
            alike = sum(other.partition("-")[0] == name for other in names)
            names.append(name if one.suffix is not None or not alike else f"{name}-{alike + 1}")
        return tuple(names)


def _difference(first: Recipe, other: Recipe) -> str:
    """Name what a recipe has that the first has not, such as ``jumprelu.w2048k8``."""
    parts = [
        other.form.replace("_", "-") if other.form != first.form else "",
        other.kind.replace("_", "-") if other.kind != first.kind else "",
        f"w{other.width}k{other.k}" if (other.width, other.k) != (first.width, first.k) else "",
        "end-to-end" if other.objective != first.objective else "",
    ]
    return ".".join(filter(None, parts)) or "other"
