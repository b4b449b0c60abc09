"""How trusted inputs are shown to people, where an operator says how."""

from collections.abc import Mapping
from typing import Annotated, Self, final

from pydantic import AfterValidator, model_validator

from mad.config.fields import File, Section, factory_path


@final
class Renderer(Section):
    """What builds the renderer: without a factory, pages name trusted inputs by their rows."""

    factory: Annotated[str, AfterValidator(factory_path)] | None = None
    arguments: Mapping[str, object] = {}
    files: Mapping[str, File] = {}

    @model_validator(mode="after")
    def _arguments_are_of_a_factory(self) -> Self:
        if self.factory is None and (self.arguments or self.files):
            raise ValueError("arguments and files need a factory to be given to")
        if twice := sorted(self.arguments.keys() & self.files.keys()):
            raise ValueError(f"arguments and files both give {', '.join(twice)}; leave one out")
        return self
