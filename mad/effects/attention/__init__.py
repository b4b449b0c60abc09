"""Attention layers, and what a change of a query or a key does through their softmax."""

from mad.effects.attention.attended import attended
from mad.effects.attention.base import Attention
from mad.effects.attention.heads import Heads
from mad.effects.attention.linears import LinearAttention
from mad.effects.attention.mix import ROLES, Role
from mad.effects.attention.multihead import MultiheadAttention

__all__ = [
    "ROLES",
    "Attention",
    "Heads",
    "LinearAttention",
    "MultiheadAttention",
    "Role",
    "attended",
]
