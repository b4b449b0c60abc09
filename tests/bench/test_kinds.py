"""Kinds of dictionaries are asked for by name, and measured beside the default."""

from pathlib import Path

import pytest

from mad.bench.kinds import EVERY_KIND, parse_kinds
from mad.bench.own import Plans
from mad.bench.run import Asked, run
from mad.bench.tasks import load_task
from mad.components.dictionaries.plan import DictionaryPlan
from mad.errors import ConfigError
from mad.fit import FitPlan
from tests.bench.folders import write_task
from tests.worlds import quiet


def test_all_stands_for_every_kind_once() -> None:
    assert parse_kinds(["jumprelu", "all"]) == EVERY_KIND
    assert parse_kinds(["topk", "relu", "topk"]) == ("relu", "topk")
    assert parse_kinds([]) == ()


def test_an_unknown_kind_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"kind 'topkk' is none of relu, .*, all"):
        parse_kinds(["topk", "topkk"])


def test_a_kind_alone_is_the_default_where_the_default_has_no_second_dictionary(
    tmp_path: Path,
) -> None:
    """Two roads to the same dictionaries end in the same figures."""
    plan = DictionaryPlan(width=32, k=4, steps=60, batch_size=128, search=False)
    task = load_task(write_task(tmp_path / "good"))
    found = run(
        task, Plans(FitPlan(name="tiny"), plan), Asked(kinds=("topk",)), progress=quiet
    ).figures
    assert found["mad:topk"].estimates == found["mad"].estimates
    assert found["mad:topk:mechanism"].estimates == found["mad:mechanism"].estimates
