"""What trained dictionaries are like: how well they explain, how they are used, how alike they are.

Model, dictionaries and trusted data in; a ``DictionaryReport`` out.
"""

from mad.report.dictionary.flow import Asked, Source, dictionaries, examine
from mad.report.dictionary.report import Comparison, DictionaryReport, Examined

__all__ = [
    "Asked",
    "Comparison",
    "DictionaryReport",
    "Examined",
    "Source",
    "dictionaries",
    "examine",
]
