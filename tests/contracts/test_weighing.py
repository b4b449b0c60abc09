"""Laws of weighing: many parts of any spread in, three rarities in the same bits out."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.special import logsumexp
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from torch import Tensor

from mad.calibration.rarity import Rarity
from mad.calibration.weighing import AFFECTED, CALIBRATOR, MECHANISM_PRIOR, Weighing
from mad.types import Ledger, Site, Term

TERMS: tuple[Term, ...] = ("set", "output", "residual", "neighbours")
SITES = ("a", "b", "c")
KEYS: tuple[tuple[Site, Term], ...] = tuple((site, term) for site in SITES for term in TERMS)
SPREADS = torch.tensor([10.0, 50.0, 1000.0, 5.0] * 3, dtype=torch.float64)


def ledger_of(bits: Tensor, *, combines: bool = True) -> Ledger:
    """Return a ledger whose sets have components of 3 bits, or do not split."""
    is_set = torch.tensor([term == "set" for _, term in KEYS])
    marginal = torch.where(is_set & combines, 3.0, torch.nan).double()
    return Ledger(KEYS, bits, marginal.expand_as(bits))


def drawn(inputs: int, seed: int, shift: Tensor | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(inputs, len(KEYS), generator=generator, dtype=torch.float64)
    return SPREADS * (noise if shift is None else noise + shift) + 5_000


WEIGHING = Weighing.fit(ledger_of(drawn(3_000, 0)))


def shifted(sites: tuple[Site, ...], terms: tuple[Term, ...], by: float) -> Tensor:
    return torch.tensor([by if s in sites and t in terms else 0.0 for s, t in KEYS]).double()


@pytest.mark.parametrize("measure", ["surprise", "mechanism", "novelty"])
def test_one_in_two_to_the_bits_of_trusted_inputs_is_as_rare(measure: str) -> None:
    found = getattr(WEIGHING.weigh(ledger_of(drawn(20_000, 1))), measure)
    for bits in (1.0, 2.0, 4.0, 6.64):
        share = float((found >= bits).double().mean())
        # By chance of the 3,000 that weigh and of these; a tenth covers four deviations at 1 bit.
        assert share == pytest.approx(2**-bits, rel=0.1 + 0.06 * bits)


def test_the_unit_of_a_part_does_not_matter() -> None:
    units = torch.logspace(0, 6, len(KEYS), dtype=torch.float64)
    fitted = Weighing.fit(ledger_of(drawn(500, 2) * units, combines=False))
    found = fitted.weigh(ledger_of(drawn(50, 3) * units, combines=False))
    expected = Weighing.fit(ledger_of(drawn(500, 2), combines=False)).weigh(
        ledger_of(drawn(50, 3), combines=False)
    )
    torch.testing.assert_close(found.rarity, expected.rarity, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.surprise, expected.surprise, rtol=1e-6, atol=1e-6)


def test_company_changes_no_bit_of_a_weight() -> None:
    # Sums of eight sites and more are taken in pairs, or not, by how rows lie in memory.
    keys = tuple((f"{site}", term) for site in range(17) for term in TERMS)
    generator = torch.Generator().manual_seed(4)
    bits = 100 * torch.rand(400, len(keys), generator=generator, dtype=torch.float64)
    marginal = torch.tensor([0.5 if term == "set" else torch.nan for _, term in keys]).double()
    ledger = Ledger(keys, bits, marginal.expand_as(bits))
    weighing = Weighing.fit(ledger)
    together = weighing.weigh(ledger)
    for row in range(40):
        alone = weighing.weigh(Ledger(keys, bits[row : row + 1], marginal.unsqueeze(0)))
        for measure in ("surprise", "mechanism", "novelty"):
            assert getattr(alone, measure)[0] == getattr(together, measure)[row]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, len(KEYS) - 1), st.floats(0, 100), st.integers(0, 10_000))
def test_more_bits_are_never_less_surprising(part: int, more: float, seed: int) -> None:
    bits = drawn(1, seed)
    before = WEIGHING.weigh(ledger_of(bits))
    bits[0, part] += more * SPREADS[part]
    after = WEIGHING.weigh(ledger_of(bits))
    assert after.surprise >= before.surprise - 1e-9
    if KEYS[part][1] in ("residual", "neighbours"):
        assert after.mechanism == before.mechanism
        assert after.novelty >= before.novelty - 1e-9
    else:
        assert after.novelty == before.novelty
        assert after.mechanism >= before.mechanism - 1e-9


def test_the_surprise_is_the_rarity_of_the_evidence_by_its_formula() -> None:
    """An independent reading of the definition, in numpy."""
    bits = drawn(200, 4, shifted(("a",), ("residual",), 3.0))

    def evidence(rows: Tensor) -> np.ndarray:
        trusted = torch.cat([drawn(3_000, 0), drawn(3_000, 0)[:, ::4] - 3], dim=1)
        plain = Rarity.fit(trusted, least_scale=1 / math.log(2))
        rarity = plain.bits(torch.cat([rows, rows[:, ::4] - 3], dim=1)).numpy()
        log_e = math.log(CALIBRATOR) + (1 - CALIBRATOR) * math.log(2) * rarity
        told = []
        for number, columns in enumerate(((0, 1, 12), (2, 3))):
            places = [[c + 4 * s if c < 12 else c + s for c in columns] for s in range(3)]
            by_site = np.stack([np.log(np.exp(log_e[:, p]).mean(axis=1)) for p in places], axis=1)
            cells = [np.log(1 - a + a * np.exp(by_site)).sum(axis=1) for a in AFFECTED]
            cells[-1] *= float(WEIGHING.power[number])
            told.append(logsumexp(cells, axis=0) - math.log(len(AFFECTED)))
        weights = [[MECHANISM_PRIOR], [1 - MECHANISM_PRIOR]]
        return logsumexp(np.stack(told), axis=0, b=np.array(weights))

    reference = torch.from_numpy(evidence(drawn(3_000, 0))).unsqueeze(1)
    expected = Rarity.fit(reference).bits(torch.from_numpy(evidence(bits)).unsqueeze(1))[:, 0]
    torch.testing.assert_close(
        WEIGHING.weigh(ledger_of(bits)).surprise, expected, rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize(
    ("shift", "at_least"),
    [
        # One loud part among twelve, whatever its unit; and every part a little.
        (shifted(("b",), ("neighbours",), 4.0), 0.95),
        (shifted(("b",), ("residual",), 4.0), 0.95),
        (shifted(SITES, ("residual", "neighbours"), 1.5), 0.95),
    ],
)
def test_one_loud_part_and_many_faint_ones_are_both_seen(shift: Tensor, at_least: float) -> None:
    ordinary = WEIGHING.weigh(ledger_of(drawn(2_000, 5))).surprise
    odd = WEIGHING.weigh(ledger_of(drawn(2_000, 6, shift))).surprise
    labels = [0] * 2_000 + [1] * 2_000
    assert roc_auc_score(labels, torch.cat([ordinary, odd]).numpy()) > at_least
    # The best test of a single shift by 4 that knows where to look finds this much.
    assert norm.cdf(4 / math.sqrt(2)) > at_least


def repeated_ledger(inputs: int, seed: int, *, copies: int, noise: float) -> Ledger:
    """Return sites that mostly repeat one another, and one site that does not."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(inputs, 1, generator=generator).double()
    own = torch.randn(inputs, copies + 1, generator=generator).double()
    bits = torch.cat([common + noise * own[:, :copies], own[:, copies:]], dim=1)
    keys: tuple[tuple[Site, Term], ...] = tuple((str(i), "residual") for i in range(copies + 1))
    return Ledger(keys, 20 * bits, torch.full_like(bits, torch.nan))


def test_sites_that_repeat_each_other_count_as_fewer() -> None:
    alike = Weighing.fit(repeated_ledger(2_000, 0, copies=9, noise=0.05)).power[1].item()
    apart = Weighing.fit(repeated_ledger(2_000, 0, copies=9, noise=100.0)).power[1].item()
    # Nine copies have 81 times the variance of one; with the tenth, 10 over 82, as a deviation.
    assert alike == pytest.approx(math.sqrt(10 / 82), rel=0.05)
    assert apart == pytest.approx(1, abs=0.05)


def test_views_of_one_site_are_averaged_like_its_terms() -> None:
    names = ("a", "a:max", "a:w64k3")
    bits, new = drawn(1_000, 12)[:, :3], drawn(100, 13)[:, :3]

    def weighed(keys: tuple[tuple[Site, Term], ...]) -> Tensor:
        def ledger(rows: Tensor) -> Ledger:
            return Ledger(keys, rows, torch.full_like(rows, torch.nan))

        return Weighing.fit(ledger(bits)).weigh(ledger(new)).surprise

    views = weighed(tuple((name, "residual") for name in names))
    terms = weighed((("a", "residual"), ("a", "neighbours"), ("a", "residual")))
    assert torch.equal(views, terms)
    assert not torch.equal(views, weighed(tuple((name[-1], "residual") for name in names)))


def test_a_shift_of_novelty_alone_leaves_the_mechanism_as_it_was() -> None:
    found = WEIGHING.weigh(ledger_of(drawn(4_000, 7, shifted(SITES, ("residual",), 5.0))))
    flagged = float((found.mechanism >= -math.log2(0.01)).double().mean())
    assert 0.005 < flagged < 0.02
    assert float((found.novelty >= -math.log2(0.01)).double().mean()) > 0.99


def test_a_part_that_hardly_varies_is_at_most_as_rare_as_it_is_long() -> None:
    trusted = drawn(1_000, 11)
    trusted[:, 1] = 1e-6 * torch.rand(1_000, generator=torch.Generator().manual_seed(0)).double()
    bits = trusted[:1].clone()
    bits[0, 1] = 3.0
    rarity = Weighing.fit(ledger_of(trusted)).weigh(ledger_of(bits)).rarity[0, 1]
    # As rare as the rarest 2 % before the tail, and the three bits beyond it.
    assert rarity.item() == pytest.approx(math.log2(1_001 / 21) + 3, abs=0.1)


def test_what_is_not_a_number_is_infinitely_rare() -> None:
    bits = drawn(2, 8)
    bits[1, 2] = torch.inf
    found = WEIGHING.weigh(ledger_of(bits))
    assert found.surprise[1] == torch.inf
    assert found.novelty[1] == torch.inf
    assert torch.isfinite(found.mechanism).all()
    assert torch.isfinite(found.surprise[0])


def test_without_components_the_surprise_is_the_novelty() -> None:
    keys: tuple[tuple[Site, Term], ...] = (("a", "residual"), ("a", "neighbours"))

    def ledger(inputs: int, seed: int) -> Ledger:
        bits = drawn(inputs, seed)[:, :2]
        return Ledger(keys, bits, torch.full_like(bits, torch.nan))

    found = Weighing.fit(ledger(400, 9)).weigh(ledger(100, 10))
    assert torch.equal(found.surprise, found.novelty)
    assert (found.mechanism == 0).all()
