"""What is sent to be judged, checked against a baseline, and what it would have been observed as.

Inputs are run by us. A caller that runs the model itself sends what it computed at the sites, or
only which components were active.
"""

from mad.payloads.batches import ActivationBatch, CodeBatch, Payload, ViewCodes, size_of
from mad.payloads.checks import check_activations, check_codes, check_finite, check_form
from mad.payloads.observed import observed_activations, observed_codes
from mad.payloads.wanted import Shapes, drawn, zeros

__all__ = [
    "ActivationBatch",
    "CodeBatch",
    "Payload",
    "Shapes",
    "ViewCodes",
    "check_activations",
    "check_codes",
    "check_finite",
    "check_form",
    "drawn",
    "observed_activations",
    "observed_codes",
    "size_of",
    "zeros",
]
