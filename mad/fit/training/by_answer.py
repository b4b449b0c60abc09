"""Dictionaries that are trained through the model, by what it answers: one after another."""

from mad.components.dictionaries.dictionary import Dictionary
from mad.errors import ConfigError
from mad.fit.end_to_end import EndToEndPlan, train_end_to_end
from mad.fit.training.source import ModelSource, Source
from mad.fit.training.wanted import Job
from mad.types import Progress


def train_by_answer(job: Job, source: Source, *, progress: Progress) -> Dictionary:
    """Train one dictionary end to end on the inputs of a source.

    Raises:
        ConfigError: activations come from files, beside which there is no model to run.
    """
    if not isinstance(source, ModelSource):
        raise ConfigError(
            f"dictionary {job.look.view!r} is trained end to end, which runs the model: leave "
            'decomposition.activations out, or set objective = "reconstruction"'
        )
    return train_end_to_end(
        source.model,
        job.look,
        source.data,
        EndToEndPlan(dictionary=job.trained_plan),
        rows=source.rows,
        progress=progress,
    )
