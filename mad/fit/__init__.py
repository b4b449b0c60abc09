"""The fit flow: trusted data in, baseline out; ``flow`` is the file to read first."""

from mad.fit.checkpoint import Unfinished
from mad.fit.dictionaries import Trained, train_dictionaries
from mad.fit.flow import check_unseen, fit
from mad.fit.plan import FitPlan, Split, split

__all__ = [
    "FitPlan",
    "Split",
    "Trained",
    "Unfinished",
    "check_unseen",
    "fit",
    "split",
    "train_dictionaries",
]
