"""Active sets with the ranks of what is active: worked out by hand."""

import pytest

from mad.report import Accounting, Described, SiteAccount
from mad.report.accounting import NOTHING
from mad.report.ranks import ranked, rows


def account(*, components: int, active: float, set_bits: float) -> SiteAccount:
    return SiteAccount(
        site="mlp",
        vocabulary="decomposition",
        step=0.01,
        pitch_steps=1.0,
        alternatives=1,
        components=components,
        active=active,
        vocabulary_parameters=0,
        set=Described("independent", components, 1, set_bits),
        magnitudes=NOTHING,
        residual=NOTHING,
        largest_error_steps=0.0,
    )


def test_a_fitted_code_stands_in_the_place_of_names_of_one_length() -> None:
    """Two of eight: 3 bits a name, 4 bits a rank, and 3.5 bits by the fitted code."""
    found = ranked(account(components=8, active=2.0, set_bits=3.5), rank_bits=4.0)
    assert found.uniform_bits == pytest.approx(6.0)
    assert found.uniform_total_bits == pytest.approx(14.0)
    assert found.total_bits == pytest.approx(11.5)


def test_a_single_component_needs_no_name_and_none_has_no_rank() -> None:
    assert ranked(account(components=1, active=1.0, set_bits=0.1), rank_bits=2.0).uniform_bits == 0
    nothing = ranked(account(components=0, active=0.0, set_bits=0.0), rank_bits=2.0)
    assert (nothing.total_bits, nothing.uniform_total_bits) == (0.0, 0.0)


def test_there_is_a_row_a_site() -> None:
    whole = Accounting(10, 6, 4, (account(components=8, active=2.0, set_bits=3.5),))
    assert list(rows(whole, "decomposition", rank_bits=4.0)) == [
        ("mlp", "2.0", "3.5", "6.0", "11.5", "14.0")
    ]
