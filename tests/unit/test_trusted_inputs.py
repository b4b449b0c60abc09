"""Rows of the trusted data are shown where they are what a version was fitted on, or not at all."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from mad.baseline import format as bundles
from mad.baseline.bundle import NO_ROWS, Baseline, TrustedRows
from mad.codes.neighbours import NeighbourCode
from mad.errors import BaselineError, ConfigError
from mad.rendering.base import Blank, OneInput, Renderer, Words
from mad.rendering.trusted import CHANGED, FAILED, GONE, UNKNOWN, UNREADABLE, TrustedInputs
from mad.types import Dataset
from tests.worlds import Rows, World, tiny_world


@pytest.fixture(scope="module")
def world() -> World:
    return tiny_world()


@pytest.fixture(scope="module")
def rows(world: World) -> Sequence[int]:
    found: Sequence[int] = world.baseline.trusted.rows[:3].tolist()
    return found


def first_number(inputs: OneInput) -> str:
    return f"{float(inputs['x'][0]):.4f}"


def showing(
    world: World,
    data: Dataset | None = None,
    *,
    render: Renderer = first_number,
    trusted: TrustedRows | None = None,
) -> TrustedInputs:
    digests = world.baseline.trusted if trusted is None else trusted
    opened = world.trusted if data is None else data
    return TrustedInputs(render, lambda: opened, lambda _name, _version: digests)


def test_a_bundle_keeps_digests_of_every_row_an_explanation_can_name(world: World) -> None:
    named = [part.memory.rows for part in world.baseline.parts if part.memory is not None]
    named += [one.code.rows for one in world.baseline.parts if isinstance(one.code, NeighbourCode)]
    assert len(named) == 4
    kept = world.baseline.trusted
    assert torch.equal(kept.rows, torch.cat(named).unique())
    again = bundles.decode(bundles.encode(world.baseline), name="tiny")
    assert torch.equal(again.trusted.rows, kept.rows)
    assert torch.equal(again.trusted.digests, kept.digests)


def test_a_bundle_without_digests_can_be_read(world: World) -> None:
    earlier = replace(world.baseline, trusted=NO_ROWS)
    again: Baseline = bundles.decode(bundles.encode(earlier), name="tiny")
    assert len(again.trusted.rows) == 0


def test_rows_are_shown_as_the_renderer_has_them(world: World, rows: Sequence[int]) -> None:
    shown = showing(world).shown("tiny", 1, rows)
    assert shown == {row: Words(f"{float(world.trusted.x[row, 0]):.4f}") for row in rows}


def test_nothing_is_shown_once_a_row_is_not_what_it_was(world: World, rows: Sequence[int]) -> None:
    changed = world.trusted.x.clone()
    changed[rows[1], 5] += 1e-6
    assert showing(world, Rows(changed)).shown("tiny", 1, rows) == dict.fromkeys(rows, CHANGED)


def test_shorter_data_and_rows_nobody_kept_are_no_error(world: World, rows: Sequence[int]) -> None:
    short = Rows(world.trusted.x[: rows[-1]])
    assert showing(world, short).shown("tiny", 1, rows) == dict.fromkeys(rows, CHANGED)
    kept = set(world.baseline.trusted.rows.tolist())
    stranger = next(row for row in range(len(world.trusted)) if row not in kept)
    assert showing(world).shown("tiny", 1, [stranger]) == {stranger: CHANGED}


def test_a_version_from_before_digests_were_kept_says_so(world: World, rows: Sequence[int]) -> None:
    assert showing(world, trusted=NO_ROWS).shown("tiny", 1, rows) == dict.fromkeys(rows, UNKNOWN)


def test_a_renderer_that_fails_leaves_a_blank_and_a_line_in_the_log(
    world: World, rows: Sequence[int], caplog: pytest.LogCaptureFixture
) -> None:
    def fails_on_one(inputs: OneInput) -> str:
        if torch.equal(inputs["x"], world.trusted.x[rows[0]]):
            raise KeyError("no such font")
        return "fine"

    with caplog.at_level(logging.ERROR):
        shown = showing(world, render=fails_on_one).shown("tiny", 1, rows)
    assert shown == {rows[0]: FAILED, rows[1]: Words("fine"), rows[2]: Words("fine")}
    (line,) = caplog.records
    assert line.message == "renderer failed"
    assert "no such font" in str(line.exc_info)


def test_what_cannot_be_read_leaves_blanks(world: World, rows: Sequence[int]) -> None:
    def no_data() -> Dataset:
        raise ConfigError("trusted.npz is not a file")

    def no_version(_name: str, _version: int) -> TrustedRows:
        raise BaselineError("tiny@1 is not there")

    kept = world.baseline.trusted
    for shows, reason in (
        (TrustedInputs(first_number, no_data, lambda _name, _version: kept), UNREADABLE),
        (TrustedInputs(first_number, lambda: world.trusted, no_version), GONE),
    ):
        shown = shows.shown("tiny", 1, rows)
        assert shown == dict.fromkeys(rows, reason)
        assert all(isinstance(one, Blank) and one.reason for one in shown.values())


def test_what_was_rendered_is_kept(world: World, rows: Sequence[int]) -> None:
    rendered = []

    def counted(inputs: OneInput) -> str:
        rendered.append(inputs)
        return "text"

    shows = showing(world, render=counted)
    for _ in range(3):
        shows.shown("tiny", 1, rows)
    assert len(rendered) == len(rows)
    shows.shown("tiny", 2, rows)
    assert len(rendered) == 2 * len(rows)
