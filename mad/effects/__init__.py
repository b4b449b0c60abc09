"""What a model's answer owes to its pieces: components, heads, or parts of any site's output.

``by_effect`` makes active sets of it. An ``Experiment`` estimates effects by attribution patching
(AtP and AtP*), and measures them by running the model again, which is slow and true.
"""

from mad.effects.activity import by_effect, differentiated
from mad.effects.answer import Answer
from mad.effects.attention import Attention, Heads, LinearAttention, MultiheadAttention
from mad.effects.base import Changes, Nodes, References
from mad.effects.components import Components
from mad.effects.experiment import METHODS, Experiment, Method, Where, sites_of
from mad.effects.parts import Parts

__all__ = [
    "METHODS",
    "Answer",
    "Attention",
    "Changes",
    "Components",
    "Experiment",
    "Heads",
    "LinearAttention",
    "Method",
    "MultiheadAttention",
    "Nodes",
    "Parts",
    "References",
    "Where",
    "by_effect",
    "differentiated",
    "sites_of",
]
