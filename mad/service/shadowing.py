"""The shadow: scores what the active baseline scores, is counted, and never alerts."""

import logging
from typing import final

from mad.metrics import Metrics
from mad.monitor import Monitor
from mad.scoring import Observed
from mad.service.observed import Observations
from mad.types import Inputs

log = logging.getLogger(__name__)


@final
class Shadowing:
    """Judges in the model's thread; whatever fails is counted, and logged once a revision."""

    def __init__(self, metrics: Metrics, observations: Observations) -> None:
        self._metrics = metrics
        self._observations = observations
        self._failed = ""

    def judge(self, shadow: Monitor, active: Monitor, observed: Observed, inputs: Inputs) -> None:
        """Count what a shadow finds of live inputs that the active baseline has just judged."""
        try:
            judgement = (
                shadow.judge_observed(observed, max_charges=0)
                if shadow.scorer.observes_as(active.scorer)
                else shadow.judge(inputs, max_charges=0)
            )
            name = shadow.baseline.manifest.name
            self._metrics.scored(name, "shadow", judgement.verdicts)
            # Live traffic, as another revision sees it: calibration is asked for by revision.
            self._observations.feed(shadow.baseline, "live", judgement)
        except Exception:
            self._metrics.promotion.shadow_failed()
            if self._failed != shadow.baseline.revision:
                self._failed = shadow.baseline.revision
                log.exception("the shadow failed", extra={"revision": self._failed})
