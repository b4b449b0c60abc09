"""Model diffing: which components' rates, magnitudes, codes and weights moved, in bits an input."""

from mad.report.diff.flow import Diff, Length, Rows, Viewed, diff_baselines, diff_models
from mad.report.diff.sheet import as_json, diff_sheet
from mad.report.diff.usage import Moves, Usage, moves
from mad.report.diff.weights import Expressed, expressed, weights_of

__all__ = [
    "Diff",
    "Expressed",
    "Length",
    "Moves",
    "Rows",
    "Usage",
    "Viewed",
    "as_json",
    "diff_baselines",
    "diff_models",
    "diff_sheet",
    "expressed",
    "moves",
    "weights_of",
]
