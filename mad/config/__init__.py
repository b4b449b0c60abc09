"""Settings read from one TOML file; ``settings`` is the file to read first."""

from mad.config.attributions import Attributions
from mad.config.decomposition import Decomposition, Recipe
from mad.config.effects import AttentionLayers, Effects
from mad.config.fields import Address, Section
from mad.config.parameters import Parameters
from mad.config.security import Security
from mad.config.settings import Settings
from mad.config.tracing import Tracing

__all__ = [
    "Address",
    "AttentionLayers",
    "Attributions",
    "Decomposition",
    "Effects",
    "Parameters",
    "Recipe",
    "Section",
    "Security",
    "Settings",
    "Tracing",
]
