"""Bundles of codes that are made of codes come back exactly, and damaged ones are refused."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mad.baseline.bundle import Baseline
from mad.baseline.format import MANIFEST, decode, encode
from mad.baseline.store import BaselineStore
from mad.codes.accounting import CodedPart
from mad.codes.base import SetCode
from mad.codes.bayes import BayesCode
from mad.errors import BaselineError
from tests.contracts.clustered import BAYES, CONTEXT, EXPERTS, INDEPENDENT, MIXTURE, TRUSTED
from tests.worlds import tiny_world

NESTED = BayesCode((BAYES, EXPERTS), torch.tensor([0.25, 0.75], dtype=torch.float64))


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    """A baseline whose first part is a mixture of codes, one of them a mixture itself."""
    own = tiny_world().baseline
    return replace(own, parts=(replace(own.parts[0], code=NESTED), *own.parts[1:]))


@pytest.mark.parametrize("code", [MIXTURE, EXPERTS, BAYES, NESTED])
def test_a_stored_code_charges_what_it_did_to_the_bit(
    baseline: Baseline, code: SetCode, tmp_path: Path
) -> None:
    store = BaselineStore(tmp_path)
    first = replace(baseline.parts[0], code=code)
    store.save(replace(baseline, parts=(first, *baseline.parts[1:])))
    again = store.load("tiny").parts[0].code
    assert type(again) is type(code)
    assert torch.equal(again.lengths(TRUSTED, CONTEXT), code.lengths(TRUSTED, CONTEXT))
    assert torch.equal(again.typical(CONTEXT), code.typical(CONTEXT))


def test_the_codes_beside_a_nested_one_keep_their_own_arrays(baseline: Baseline) -> None:
    again = decode(encode(baseline), name="tiny@1")
    for old, new in zip(baseline.parts[1:], again.parts[1:], strict=True):
        assert type(new.code) is type(old.code)
        for name, value in vars(old.code).items():
            if torch.is_tensor(value) and not name.startswith("_"):
                assert torch.equal(getattr(new.code, name), value), name


def test_a_code_that_is_not_made_of_codes_is_written_as_it_always_was(baseline: Baseline) -> None:
    plain = replace(baseline, parts=(CodedPart("1", "set", INDEPENDENT),))
    rows = json.loads(encode(plain)[MANIFEST])["parts"]
    assert rows == [{"site": "1", "term": "set", "kind": "independent", "numbers": {}}]


def test_an_unknown_code_inside_another_is_refused_by_its_name(baseline: Baseline) -> None:
    files = encode(baseline)
    manifest = json.loads(files[MANIFEST])
    del manifest["digest"]
    manifest["parts"][0]["codes"]["members"][1]["kind"] = "oracle"
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    edited = files | {MANIFEST: json.dumps(manifest | {"digest": digest}).encode()}
    with pytest.raises(BaselineError, match="code 'oracle', which this version does not know"):
        decode(edited, name="tiny@1")
