"""Requests judged together: their inputs joined, and what was judged split again."""

from collections.abc import Sequence

import torch

from mad.errors import InputError
from mad.judgement import Judgement, Rows
from mad.types import Inputs


def join(parts: Sequence[Inputs]) -> Inputs:
    """Concatenate inputs of one signature along the batch axis."""
    return {name: torch.cat([part[name] for part in parts], dim=0) for name in parts[0]}


def split(whole: Judgement, sizes: Sequence[int]) -> list[Judgement]:
    """Give each of the requests judged together its own rows."""
    assert has_batch_axis(whole)
    parts = []
    start = 0
    for size in sizes:
        stop = start + size
        explanations = {
            row - start: kept for row, kept in whole.explanations.items() if start <= row < stop
        }
        outputs = {name: output[start:stop] for name, output in whole.outputs.items()}
        verdicts = whole.verdicts[start:stop]
        rows = (Rows(whole.rows[0].sets, start, stop),)
        parts.append(Judgement(outputs, verdicts, explanations, whole.stage_seconds, rows))
        start = stop
    return parts


def concatenate(parts: Sequence[Judgement]) -> Judgement:
    """Join the judgements of consecutive slices of one request; one slice stays as it is.

    Raises InputError for several slices of outputs that have no batch axis to be joined along.
    """
    if len(parts) == 1:
        return parts[0]
    sizes = [len(part.verdicts) for part in parts]
    if not all(map(has_batch_axis, parts)):
        raise InputError(
            f"the model's outputs {sorted(parts[0].outputs)} do not all have a batch axis; send "
            f"at most {sizes[0]} inputs a request"
        )
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    return Judgement(
        outputs={
            name: torch.cat([part.outputs[name] for part in parts], dim=0)
            for name in parts[0].outputs
        },
        verdicts=tuple(verdict for part in parts for verdict in part.verdicts),
        explanations={
            start + row: kept
            for start, part in zip(starts, parts, strict=True)
            for row, kept in part.explanations.items()
        },
        stage_seconds={
            stage: sum(part.stage_seconds[stage] for part in parts)
            for stage in parts[0].stage_seconds
        },
        rows=tuple(rows for part in parts for rows in part.rows),
    )


def has_batch_axis(judgement: Judgement) -> bool:
    """Say whether each of the model's outputs has a row for each input."""
    count = len(judgement.verdicts)
    return all(output.shape[:1] == (count,) for output in judgement.outputs.values())
