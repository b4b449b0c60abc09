"""Anomalies are found and named by components that are the mechanisms; which are, is measured."""

import json
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import pytest
import torch

from mad.bench.circuits import Setting, kept, rows_of, summary, table
from mad.bench.truth.base import AnomalyKind
from mad.bench.truth.circuits import random_circuit
from mad.bench.truth.detecting import Row, Source
from mad.bench.truth.gates import circuit_truth
from mad.bench.truth.known import Known
from mad.bench.truth.matching import agreement, match
from mad.bench.truth.network import handcoded
from mad.errors import ConfigError
from tests.worlds import quiet


def test_agreement_is_one_for_the_same_inputs_and_zero_for_others() -> None:
    used = torch.tensor([[True, False], [True, False], [False, True], [False, False]])
    known = torch.tensor([[True], [True], [False], [False]])
    assert agreement(used, known).squeeze(1).tolist() == [1.0, 0.0]
    # All four, of which two are: precision one half, recall one.
    assert float(agreement(torch.ones(4, 1).bool(), known)) == pytest.approx(2 / 3)
    assert float(agreement(torch.zeros(4, 1).bool(), known)) == 0.0


def gates() -> Known:
    return Known.of_circuit(handcoded(random_circuit(seed=0), seed=0))


def test_components_stand_for_the_mechanisms_they_are_on_with() -> None:
    truth, whole = circuit_truth(seed=0), gates()
    found = match(truth, whole, truth.draw(2_000, torch.Generator().manual_seed(0)))
    assert (found.local == 1.0).all()
    assert found.stands_for == {("streams.2", gate): frozenset({gate}) for gate in range(16)}
    # An output always matters where it is on; a gate that only others read may not.
    outputs = list(random_circuit(seed=0).outputs)
    assert found.found[outputs].all()


@cache
def found(kind: str) -> Row:
    setting = Setting(trusted=3_000, tests=200)
    wanted = [("mechanism", "known")] if kind == "mechanism" else [("pair", "known")]
    (row,) = rows_of("circuit", 0, wanted, setting, progress=quiet)  # type: ignore[arg-type]  # literals
    return row


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mechanism", "pair"])
def test_known_gates_find_and_name_what_trusted_inputs_never_use(kind: str) -> None:
    row = found(kind)
    assert row.recall_matched >= 0.95
    assert row.named >= 0.9
    assert row.local == 1.0


@pytest.mark.slow
@pytest.mark.timeout(400)  # twenty seconds of its own, beside whatever else runs
def test_a_decomposition_of_a_toy_finds_and_names_a_feature_that_trusted_inputs_never_use() -> None:
    setting = Setting(trusted=6_000, tests=300, steps=1_000)
    wanted: list[tuple[AnomalyKind, Source]] = [("mechanism", "full")]
    (row,) = rows_of("tms", 0, wanted, setting, progress=quiet)
    assert row.culprits_found
    assert row.recall >= 0.95
    assert row.named >= 0.9
    assert row.false_alarms <= 0.03


ROW = Row("circuit 3", 3, "full", "pair", "and 1, or 2", *(0.5, 0.25, 0.75), True, *(0.5,) * 7)


def test_what_was_done_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    assert kept(path) == []
    path.write_text(json.dumps([asdict(ROW)]))
    assert kept(path) == [ROW]
    path.write_text('[{"model": 1}]')
    with pytest.raises(ConfigError, match="is no file of"):
        kept(path)


def test_a_table_has_one_line_a_row() -> None:
    lines = table([ROW, ROW]).splitlines()[-4:]
    assert lines[0].startswith("| model | components | anomaly |")
    assert "| circuit 3 | full | pair | and 1, or 2 | 50% | yes |" in lines[2]


def test_a_summary_counts_only_anomalies_whose_own_mechanisms_were_found() -> None:
    clear = replace(ROW, found=1.0, recall=0.9, recall_matched=0.8, named=0.7)
    missed = replace(ROW, culprits_found=False, recall=0.0)
    assert summary([ROW, clear, missed]) == [
        ("circuit", "full", "67%", "2 of 3", "50.0%, 70.0%", "50.0%, 65.0%", "50.0%, 60.0%")
    ]
    assert summary([missed])[0][3:] == ("0 of 1", "none", "none", "none")
