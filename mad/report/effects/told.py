"""A comparison in; sentences, tables, a page and JSON out."""

import math
from collections.abc import Mapping
from typing import Final

from mad.effects import METHODS, Answer, Method
from mad.report.drawing import traces
from mad.report.effects.agreement import Agreement
from mad.report.effects.flow import EffectsReport
from mad.report.sheet import Section, Sheet, Table, share

NAMES: Final[Mapping[Method, str]] = {
    "gradient": "AtP",
    "query_key": "AtP, query-key fix",
    "drop": "AtP, GradDrop",
    "star": "AtP*",
}
GOOD: Final = 0.9
"""A rank correlation, and a share of the top found, from which on estimates are to be trusted."""

POOR: Final = 0.7
"""Below this they mislead."""

_ANSWERS: Final[Mapping[Answer, str]] = {
    "score": "the score of the predicted label",
    "loss": "the code length of the predicted label, in bits,",
}

_SHARES: Final = (0.8, 0.95, 1.0)


def title(report: EffectsReport) -> str:
    """Say what was compared."""
    return (
        f"Effects of {report.whole.pairs} nodes on the answers of {report.model} to "
        f"{report.inputs} inputs"
    )


def methods(report: EffectsReport) -> tuple[Method, ...]:
    """Return the methods that differ: fixes need attentions, and GradDrop needs branches."""
    lacking: set[Method] = set()
    if not report.attentions:
        lacking |= {"query_key", "star"}
    if not report.branches:
        lacking |= {"drop", "star"}
    return tuple(method for method in METHODS if method not in lacking)


def verdict(report: EffectsReport) -> tuple[str, bool | None]:
    """Say whether active sets by effect can be trusted on this model; None: not to be said.

    They go by plain gradients, so what counts is how those rank the components of each view.
    """
    views = [one for one in report.kinds if one.name in report.components]
    figures = {one.name: _worst(one) for one in views if not math.isnan(_worst(one))}
    if not figures:
        return "No component of any view has an effect to rank, so nothing can be said.", None
    name = min(figures, key=lambda each: figures[each])
    worst = f"worst at {name}: {figures[name]:.2f} of 1, in rank or in the top that is found"
    if figures[name] >= GOOD:
        return (
            'activity = "effect" can be trusted on this model: gradients rank components as '
            f"running it again does ({worst}).",
            True,
        )
    if figures[name] >= POOR:
        return (
            f'activity = "effect" is fair on this model ({worst}): the strongest effects are '
            "found, and some of the others take each other's places.",
            None,
        )
    return (
        f'activity = "effect" misleads on this model ({worst}): gradients miss components that '
        'the answer depends on; use activity = "magnitude", or other sites.',
        False,
    )


def tables(report: EffectsReport) -> tuple[Table, ...]:
    """Return ranks, the share found at once, and what finding them costs."""
    some = methods(report)
    kinds = (*report.kinds, report.whole)
    names = tuple(NAMES[method] for method in some)
    return (
        Table(
            "Rank correlation with running again (Spearman, of absolute effects)",
            ("nodes", "pairs", "without effect", *names),
            tuple(
                (one.name, str(one.pairs), str(one.without), *(_two(one.ranks[m]) for m in some))
                for one in kinds
            ),
        ),
        Table(
            f"Share of an input's {report.top} most effective nodes among its first {report.top}",
            ("nodes", *names),
            tuple((one.name, *(_share(one.found[m]) for m in some)) for one in kinds),
        ),
        Table(
            f"Runs of the model, an input, that find so many of its {report.top} most effective",
            ("method", "before any is verified", *(share(each) for each in _SHARES)),
            tuple(
                (NAMES[one.method], str(one.first), *(_runs(one.runs_for(s)) for s in _SHARES))
                for one in report.curves
                if one.method in some
            ),
        ),
    )


def effects_sheet(report: EffectsReport) -> Sheet:
    """Return the page: the verdict, the missed-node curve, and the tables."""
    told, is_good = verdict(report)
    some = methods(report)
    drawing = traces(
        f"Share of an input's {report.top} most effective nodes that are missed, by runs of the "
        "model: those that a method takes, a backward pass counted as two, then one for each node "
        "verified, in the order of its estimates.",
        {
            NAMES[one.method]: [
                (float(one.first + place), 1 - float(found))
                for place, found in enumerate(one.found)
            ]
            for one in report.curves
            if one.method in some
        },
    )
    return Sheet(
        title(report),
        f"An effect is what {_ANSWERS[report.answer]} gains when a node is changed: a component "
        "silenced, anything else replaced. Estimated by gradients (attribution patching, "
        "Kramar et al. 2024), and measured by running the model again.",
        (
            Section(
                title="Can effects be trusted?",
                prose=told,
                standing={True: "ok", False: "bad", None: ""}[is_good],
                drawings=(drawing,),
                tables=tables(report),
            ),
        ),
    )


def as_json(report: EffectsReport) -> dict[str, object]:
    """Return every figure."""
    return {
        "model": report.model,
        "answer": report.answer,
        "inputs": report.inputs,
        "top": report.top,
        "verdict": verdict(report)[0],
        "nodes": {
            one.name: {
                "pairs": one.pairs,
                "without_effect": one.without,
                "rank_correlation": {m: _or_none(rank) for m, rank in one.ranks.items()},
                "found_at_once": {m: _or_none(found) for m, found in one.found.items()},
            }
            for one in (*report.kinds, report.whole)
        },
        "curves": {
            one.method: {"first_runs": one.first, "found": one.found.tolist()}
            for one in report.curves
        },
    }


def _worst(one: Agreement) -> float:
    return min(one.ranks["gradient"], one.found["gradient"])


def _two(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.3f}"


def _share(value: float) -> str:
    return "n/a" if math.isnan(value) else share(value)


def _runs(value: int | None) -> str:
    return "never" if value is None else str(value)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
