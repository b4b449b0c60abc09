"""Is a candidate fit to be active? Held-out inputs and two baselines in, one answer a gate out."""

from mad.promotion.exam import Exam, Seen, slices
from mad.promotion.gates import Bounds, Gate, halves, judged, refuse

__all__ = ["Bounds", "Exam", "Gate", "Seen", "halves", "judged", "refuse", "slices"]
