"""Settings of dictionaries: which sites are watched, and how each dictionary is trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Self, final

from pydantic import AfterValidator, Field, model_validator

from mad.config.attributions import Attributions
from mad.config.fields import (
    Count,
    File,
    Names,
    Part,
    Positive,
    Seconds,
    Section,
    Suffix,
    distinct,
)
from mad.config.parameters import Parameters

_LAYER_POOLINGS: Final = {
    "attention": ("auto", "last", "mean"),
    "bilinear": ("auto", "last"),
}
"""What is explained of a whole layer, where the form is of one."""


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
    learning_rate: Positive | None = None
    initial: Literal["data", "random", "pca"] = "data"
    dead: Literal["auxiliary", "resample", "none"] = "auxiliary"
    p: Annotated[float, Field(gt=0, lt=1, strict=True)] = 0.5
    prefixes: Annotated[tuple[Part, ...], Field(min_length=1)] = (0.125, 0.25, 0.5, 1.0)
    experts: Count = 8
    active_experts: Count = 1
    always_on: Annotated[bool, Field(strict=True)] = False
    resolution: Positive = 0.01
    pooling: Literal["auto", "flatten", "mean", "max", "mean_max", "last"] = "auto"
    positions: Literal["pooled", "all"] = "pooled"
    form: Literal[
        "autoencoder", "transcoder", "skip_transcoder", "crosscoder", "attention", "bilinear"
    ] = "autoencoder"
    sources: tuple[str, ...] = ()
    heads: Count = 32
    sparsity: Positive = 1.0
    causal: Annotated[bool, Field(strict=True)] = True
    left: str = ""
    right: str = ""
    out: str = ""
    rank: Count | None = None
    meta_width: Annotated[int, Field(ge=0, strict=True)] = 0
    meta_k: Count = 4
    meta_weight: Annotated[float, Field(strict=True, allow_inf_nan=False)] = 0.0
    objective: Literal["reconstruction", "end_to_end"] = "reconstruction"
    search: Annotated[bool, Field(strict=True)] = True
    suffix: Suffix | None = None

    @model_validator(mode="after")
    def _its_numbers_go_together(self) -> Self:
        if self.k > self.width and not self.is_layer:
            raise ValueError(f"k = {self.k} must be at most width = {self.width}")
        if self.kind == "switch" and self.active_experts > self.experts:
            raise ValueError(
                f"active_experts = {self.active_experts} must be at most experts = {self.experts}"
            )
        if (self.form.endswith("transcoder") or self.form == "attention") != bool(self.sources):
            raise ValueError(
                f"form = {self.form!r} with sources = {list(self.sources)}: transcoders and "
                "attention blocks, and they alone, name the site that each of theirs is explained "
                "from"
            )
        return self

    @model_validator(mode="after")
    def _a_bilinear_layer_is_named_by_its_parts(self) -> Self:
        is_bilinear = self.form == "bilinear"
        if is_bilinear and not (self.left and self.right):
            raise ValueError(
                f"form = 'bilinear' with left = {self.left!r} and right = {self.right!r}: name the "
                "two linear layers whose outputs the module multiplies, twice the same one where "
                "its halves are multiplied"
            )
        if is_bilinear and (inner := [site for site in self.sites if {*site} & {*"<@"}]):
            raise ValueError(
                f"form = 'bilinear' with site {inner[0]!r}: name the bilinear module alone; what "
                "goes into it is found"
            )
        if not is_bilinear and (self.left or self.right or self.out or self.rank):
            raise ValueError(
                f"form = {self.form!r} with left, right, out or rank: they are parts of a bilinear "
                "layer; leave them out, or set form = 'bilinear'"
            )
        return self

    @model_validator(mode="after")
    def _a_layer_is_taken_apart_as_a_whole(self) -> Self:
        if not self.is_layer:
            return self
        plain = {"kind": "topk", "objective": "reconstruction", "positions": "pooled"}
        for key, value in plain.items():
            if getattr(self, key) != value:
                raise ValueError(
                    f"form = {self.form!r} with {key} = {getattr(self, key)!r}: a layer is taken "
                    f"apart in one way; leave {key} out, or set it to {value!r}"
                )
        if self.pooling not in _LAYER_POOLINGS[self.form]:
            raise ValueError(
                f"form = {self.form!r} with pooling = {self.pooling!r}: set pooling to "
                f"{' or '.join(map(repr, _LAYER_POOLINGS[self.form]))}"
            )
        return self

    @model_validator(mode="after")
    def _a_meta_dictionary_has_a_base(self) -> Self:
        if not self.meta_width:
            if self.meta_weight:
                raise ValueError(
                    f"meta_weight = {self.meta_weight} without a meta_width: set meta_width to the "
                    "components of the meta-dictionary, or leave meta_weight out"
                )
            return self
        if self.is_layer:
            raise ValueError(
                f"form = {self.form!r} with meta_width = {self.meta_width}: meta-dictionaries are "
                "of directions that were trained; leave meta_width out, or set it to 0"
            )
        if self.meta_k > self.meta_width:
            raise ValueError(
                f"meta_k = {self.meta_k} must be at most meta_width = {self.meta_width}"
            )
        if self.meta_weight and self.objective == "end_to_end":
            raise ValueError(
                f"objective = 'end_to_end' with meta_weight = {self.meta_weight}: a dictionary is "
                "trained by the answer alone; set meta_weight = 0.0 to train the meta-dictionary "
                "afterwards"
            )
        return self

    @property
    def is_layer(self) -> bool:
        """Whether its form takes a whole layer of the model apart."""
        return self.form in _LAYER_POOLINGS

    @property
    def needs_model(self) -> bool:
        """Whether activations alone are too little to train on."""
        return self.is_layer or self.objective == "end_to_end"


@final
class Decomposition(Recipe):
    """Sites to watch, and the directory of their dictionaries with the plan to train them.

    With tables in ``dictionary``, each trains one of its own at each site, in the same pass; what a
    table leaves out is as in the section. With ``parameters`` or ``attributions`` the layers of the
    model are taken apart instead, and there are no dictionaries.
    """

    sites: Annotated[tuple[str, ...], AfterValidator(distinct)] = ()
    parameters: Parameters | None = None
    attributions: Attributions | None = None
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

    @model_validator(mode="after")
    def _components_are_of_one_sort(self) -> Self:
        if self.parameters is not None and self.attributions is not None:
            raise ValueError(
                "layers are taken apart by [decomposition.parameters] and by "
                "[decomposition.attributions]: keep one of the two"
            )
        if self.sort == "dictionaries" and not self.sites:
            raise ValueError(
                "sites is missing: name modules to watch, or layers to take apart in a section "
                "[decomposition.parameters] or [decomposition.attributions]"
            )
        if self.sort != "dictionaries" and (self.sites or self.dictionary or self.activations):
            raise ValueError(
                f"layers are taken apart by [decomposition.{self.sort}], so there are no "
                "dictionaries: leave sites, activations and [[decomposition.dictionary]] out"
            )
        return self

    @model_validator(mode="after")
    def _files_hold_no_model(self) -> Self:
        if self.activations and any(one.needs_model for one in self.recipes):
            raise ValueError(
                "activations are too little to train on for objective = 'end_to_end' and the forms "
                "attention and bilinear, which need the model: leave activations out"
            )
        return self

    @property
    def sort(self) -> Literal["dictionaries", "parameters", "attributions"]:
        """What is asked for."""
        if self.parameters is not None:
            return "parameters"
        return "dictionaries" if self.attributions is None else "attributions"

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The tables, or the section itself where there are none; none of layers taken apart."""
        if self.sort != "dictionaries":
            return ()
        return self.dictionary or (self,)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """What names the views of each recipe: none of the first, how they differ of others."""
        if not self.recipes:
            return ()
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
