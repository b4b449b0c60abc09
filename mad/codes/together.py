"""Codes that add up what active components add, of all views at once.

Each code reads rows of a table of its own. Side by side they are one table a view, read once, and
what follows is done for all codes together: after a model has been at the processor's caches an
operation takes some 20 us however little it does, so that few of them on many codes cost less.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from mad.codes.base import Code
from mad.codes.bayes import BayesCode
from mad.codes.contexts import ANY, rows_of
from mad.codes.output import OutputCode
from mad.codes.sets.clusters import summed
from mad.codes.sets.experts import ExpertsCode
from mad.codes.sets.independent import IndependentCode
from mad.codes.sets.joint import Joint
from mad.codes.sets.mixture import MixtureCode
from mad.types import Activity, Context, View


def joint_of(code: Code) -> Joint | None:
    """Return the sums that a code's lengths are made of; None where it does not add up."""
    match code:
        case BayesCode() | MixtureCode() | ExpertsCode() | IndependentCode() | OutputCode():
            return code.joint
        case _:
            return None


@final
@dataclass(frozen=True)
class Together:
    """Tables of several codes side by side, and what is done with the sums of their rows.

    A row of sums has columns in ``runs``, of ``counts`` each: clusters of a code to which a context
    adds the same, what contexts add, or outputs. ``ln`` of the totals of some runs, with what the
    context adds, are the ``pieces`` of a code; those from a place in ``firsts`` up to the next are
    of one code, and added up again. Of the columns ``picked`` by the context, the first are added
    to the pieces ``moved``; the others, the output's own, are taken from the codes ``outputs``.
    """

    contexts: Int64[Tensor, " context"]
    tables: tuple[tuple[View, Float64[Tensor, "_ _"]], ...]
    start: Float64[np.ndarray, "context_and_any column"]
    runs: Int64[np.ndarray, " run"]
    counts: Int64[np.ndarray, " run"]
    pieces: Int64[np.ndarray, " piece"]
    firsts: Int64[np.ndarray, " code"]
    picked: Int64[np.ndarray, "context_and_any pick"]
    moved: Int64[np.ndarray, " moved"]
    outputs: Int64[np.ndarray, " output"]
    to_bits: Float64[np.ndarray, " code"]

    @staticmethod
    def of(codes: Sequence[tuple[View, Code]]) -> "Together":
        """Put codes that add up side by side, at least one; those of a view follow each other."""
        contexts = torch.cat([_contexts(code) for _, code in codes]).unique()
        layout = _Layout(torch.cat([contexts, torch.tensor([ANY])]))
        tables = []
        for view, own in itertools.groupby(codes, key=lambda one: one[0]):
            added = [table for _, code in own for table in layout.add(code)]
            tables.append((view, torch.cat(added, dim=1).contiguous()))
        return layout.finished(contexts, tuple(tables))

    def lengths(
        self, activity: Mapping[View, Activity], context: Context
    ) -> Float64[np.ndarray, "batch code"]:
        """Return the code length of each input by each code, in bits."""
        place = rows_of(self.contexts, context).numpy()
        read = [
            summed(table, activity[view].components, activity[view].offsets).numpy()
            for view, table in self.tables
        ]
        sums = np.concatenate(read, axis=1) if len(read) > 1 else read[0]
        sums += self.start.take(place, axis=0)
        pieces = _log_totals(sums, self.runs, self.counts).take(self.pieces, axis=1)
        begins = np.arange(0, sums.size, sums.shape[1])[:, None]
        picked = sums.take(self.picked.take(place, axis=0) + begins)
        pieces[:, self.moved] += picked[:, : len(self.moved)]
        found: Float64[np.ndarray, "batch code"] = np.logaddexp.reduceat(
            pieces, self.firsts, axis=1
        )
        # A context below zero is no output, and costs nothing.
        is_known = context.numpy()[:, None] >= 0
        others = found.take(self.outputs, axis=1)
        found[:, self.outputs] = np.where(is_known, others - picked[:, len(self.moved) :], 0.0)
        found *= self.to_bits
        return found


def _log_totals(
    sums: Float64[np.ndarray, "batch column"],
    runs: Int64[np.ndarray, " run"],
    counts: Int64[np.ndarray, " run"],
) -> Float64[np.ndarray, "batch run"]:
    """Return ``ln`` of the total of each run, given ``ln`` of what is added up."""
    largest = np.maximum.reduceat(sums, runs, axis=1)
    each = sums - largest.repeat(counts, axis=1)
    totals: Float64[np.ndarray, "batch run"] = np.log(
        np.add.reduceat(np.exp(each, out=each), runs, axis=1)
    )
    totals += largest
    return totals


def _contexts(code: Code) -> Int64[Tensor, " context"]:
    if isinstance(code, OutputCode):
        return code.contexts
    joint = joint_of(code)
    assert joint is not None
    return joint.contexts


@final
@dataclass
class _Layout:
    """Columns, runs, pieces and picks, as codes are put one after the other.

    ``known`` are the contexts and one that nobody knows.
    """

    known: Int64[Tensor, " context_and_any"]
    start: list[Tensor] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    pieces: list[int] = field(default_factory=list)
    firsts: list[int] = field(default_factory=list)
    moved: list[int] = field(default_factory=list)
    moves: list[Tensor] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    own: list[Tensor] = field(default_factory=list)

    def add(self, code: Code) -> list[Tensor]:
        """Put one more code at the end, and return the columns of its table."""
        joint = joint_of(code)
        assert joint is not None
        first, width = sum(self.counts), joint.start.shape[1]
        self.firsts.append(len(self.pieces))
        place = rows_of(joint.contexts, self.known)
        self.start.append(joint.start[place])
        odds = {span.start: (span, own) for span, own in joint.odds}
        if isinstance(code, OutputCode):
            self.outputs.append(len(self.firsts) - 1)
            self.own.append(first + rows_of(code.contexts, self.known))
        edges = {0, width, *odds, *(span.stop for span, _ in joint.odds)}
        column = first + width
        for begin, end in itertools.pairwise(sorted(edges)):
            if begin in odds:
                self.moved.append(len(self.pieces))
                self.moves.append(column + place)
                column += odds[begin][1].shape[1]
            self.pieces.append(len(self.counts))
            self.counts.append(end - begin)
        for _, own in joint.odds:
            self.start.append(own.new_zeros(len(self.known), own.shape[1]))
            self.counts.append(own.shape[1])
        return [joint.shift, *(own for _, own in joint.odds)]

    def finished(
        self, contexts: Int64[Tensor, " context"], tables: tuple[tuple[View, Tensor], ...]
    ) -> Together:
        """Return what the codes come to."""
        counts = np.array(self.counts)
        to_bits = np.full(len(self.firsts), -1 / math.log(2))
        to_bits[self.outputs] *= -1
        picked = [*self.moves, *self.own]
        none = torch.empty(len(self.known), 0, dtype=torch.int64)
        return Together(
            contexts,
            tables,
            torch.cat(self.start, dim=1).numpy(),
            counts.cumsum() - counts,
            counts,
            np.array(self.pieces),
            np.array(self.firsts),
            (torch.stack(picked, dim=1) if picked else none).numpy(),
            np.array(self.moved, dtype=np.int64),
            np.array(self.outputs, dtype=np.int64),
            to_bits,
        )
