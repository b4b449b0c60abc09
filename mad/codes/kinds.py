"""Every kind of code by the name it has in bundles."""

from collections.abc import Mapping

from mad.codes.base import Code
from mad.codes.neighbours import NeighbourCode
from mad.codes.residual import GaussianCode
from mad.codes.sets.conditional import ConditionalCode
from mad.codes.sets.independent import IndependentCode

KINDS: Mapping[str, type[Code]] = {
    "independent": IndependentCode,
    "conditional": ConditionalCode,
    "gaussian": GaussianCode,
    "neighbours": NeighbourCode,
}
