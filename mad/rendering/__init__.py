"""Trusted inputs, shown to people: factories that settings can name as they are."""

from mad.rendering.images import image
from mad.rendering.tokens import tokens

__all__ = ["image", "tokens"]
