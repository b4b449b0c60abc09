"""The fit flow: trusted data in, baseline out; ``flow`` is the file to read first."""

from mad.fit.checkpoint import Unfinished
from mad.fit.dictionaries import train_dictionaries
from mad.fit.flow import check_unseen, fit
from mad.fit.plan import FitPlan, Split, split
from mad.fit.reading import row_digests
from mad.fit.training.shards import write_activations
from mad.fit.training.source import FileSource, ModelSource
from mad.fit.training.together import Room, Trained, train_together
from mad.fit.training.trainee import StepWatch, unwatched
from mad.fit.training.wanted import Form, LayerPlan, Wanted

__all__ = [
    "FileSource",
    "FitPlan",
    "Form",
    "LayerPlan",
    "ModelSource",
    "Room",
    "Split",
    "StepWatch",
    "Trained",
    "Unfinished",
    "Wanted",
    "check_unseen",
    "fit",
    "row_digests",
    "split",
    "train_dictionaries",
    "train_together",
    "unwatched",
    "write_activations",
]
