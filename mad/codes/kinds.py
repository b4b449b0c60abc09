"""Every kind of code by the name it has in bundles."""

from collections.abc import Mapping

from mad.codes.base import Code
from mad.codes.bayes import BayesCode
from mad.codes.low_rank import LowRankCode
from mad.codes.magnitudes import MagnitudeCode
from mad.codes.neighbours import NeighbourCode
from mad.codes.output import OutputCode
from mad.codes.residual import GaussianCode
from mad.codes.sets.chow_liu import TreeCode
from mad.codes.sets.conditional import ConditionalCode
from mad.codes.sets.experts import ExpertsCode
from mad.codes.sets.independent import IndependentCode
from mad.codes.sets.mixture import MixtureCode
from mad.codes.sets.nearest import NearestSetsCode
from mad.codes.sets.size_index import SizeIndexCode
from mad.codes.sets.worst_pair import WorstPairCode

KINDS: Mapping[str, type[Code]] = {
    "independent": IndependentCode,
    "conditional": ConditionalCode,
    "mixture": MixtureCode,
    "experts": ExpertsCode,
    "bayes": BayesCode,
    "tree": TreeCode,
    "nearest_sets": NearestSetsCode,
    "worst_pair": WorstPairCode,
    "size_index": SizeIndexCode,
    "magnitudes": MagnitudeCode,
    "output": OutputCode,
    "gaussian": GaussianCode,
    "low_rank": LowRankCode,
    "neighbours": NeighbourCode,
}
