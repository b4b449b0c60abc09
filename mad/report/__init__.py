"""Surprise accounting: how many bits describe trusted activations, and in which vocabulary fewest.

Model, decomposition and trusted data in; an ``Accounting`` out. ACCOUNTING.md defines the measure.
"""

from mad.report.accounting import Accounting, Described, SiteAccount
from mad.report.flow import AccountingPlan, Rows, Source, account

__all__ = ["Accounting", "AccountingPlan", "Described", "Rows", "SiteAccount", "Source", "account"]
