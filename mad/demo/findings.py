"""What the demo found, and the claims that must hold of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from mad.baseline.bundle import Manifest
from mad.calibration.health import binomial_interval, chance_interval
from mad.demo.attack import Served
from mad.demo.compare import Detection
from mad.demo.stream import Counters
from mad.demo.train import Skill
from mad.types import Measure

MIN_RECALL = 0.9
MIN_ATTACK_SUCCESS = 0.95
MAX_ACCURACY_LOSS = 0.01
MAX_SHIFT_ALARMS = 5
"""Harmlessly shifted images may be flagged by their mechanism so many times the nominal rate."""

CONFIDENCE = 0.99


@dataclass(frozen=True)
class Claim:
    """A sentence with this run's figures, and whether it is true."""

    sentence: str
    holds: bool


@dataclass(frozen=True)
class Findings:
    """Everything the closing tables show.

    ``thresholds`` has the bits that each measure must exceed to be flagged at the nominal rate, and
    ``detection`` is by name of the score.
    """

    skill: Skill
    manifest: Manifest
    thresholds: Mapping[Measure, float]
    served: Served
    detection: Mapping[str, Detection]

    def alarm_interval(self, kind: str) -> tuple[float, float]:
        """Return the exact 99 % interval of the alarm rate on one kind of traffic."""
        answers = self.served.answers[kind]
        return binomial_interval(answers.alarms, len(answers), confidence=CONFIDENCE)

    def flagged(self, kind: str, measure: Measure) -> int:
        """Return how many images of one kind of traffic a measure by itself would alarm on."""
        bits = self.served.answers[kind].rarity[measure]
        return int((bits > self.thresholds[measure]).sum())

    @property
    def counted(self) -> Counters:
        """What the counters must say, by the client's own count."""
        answers = self.served.answers.values()
        alarms = sum(each.alarms for each in answers)
        return Counters(sum(map(len, answers)), alarms, alarms)

    @property
    def claims(self) -> tuple[Claim, ...]:
        """What the demo promises."""
        return (*self._about_the_model, *self._about_detection, *self._about_the_server)

    @property
    def _about_the_model(self) -> tuple[Claim, ...]:
        skill = self.skill
        loss = skill.clean_accuracy - skill.backdoored_accuracy
        return (
            Claim(
                f"the trigger turns {skill.attack_success:.1%} of other classes into its target, "
                f"at least {MIN_ATTACK_SUCCESS:.0%}",
                skill.attack_success >= MIN_ATTACK_SUCCESS,
            ),
            Claim(
                f"the backdoor costs {100 * loss:.2f} points of clean accuracy, "
                f"at most {100 * MAX_ACCURACY_LOSS:.0f}",
                loss <= MAX_ACCURACY_LOSS,
            ),
        )

    @property
    def _about_detection(self) -> tuple[Claim, ...]:
        recall = self.detection["surprise"].recall.value
        nominal = self.manifest.false_alarm_rate
        ordinary = self.served.answers["ordinary"]
        observed = ordinary.alarms / len(ordinary)
        chance = chance_interval(
            nominal, self.manifest.reference_inputs, inputs=len(ordinary), confidence=CONFIDENCE
        )
        shifted = self.flagged("shifted", "mechanism") / len(self.served.answers["shifted"])
        return (
            Claim(
                f"surprise finds {recall:.1%} of triggered images at 1 % false alarms, "
                f"at least {MIN_RECALL:.0%}",
                recall >= MIN_RECALL,
            ),
            Claim(
                f"{observed:.2%} of ordinary images alarm: by chance {chance.low:.2%} to "
                f"{chance.high:.2%} do at a nominal {nominal:.2%}, {CONFIDENCE:.0%} of the time",
                chance.low <= observed <= chance.high,
            ),
            Claim(
                f"a harmless shift is no unusual mechanism: {shifted:.2%} of shifted images are "
                f"flagged by it, at most {MAX_SHIFT_ALARMS} times the nominal rate",
                shifted <= MAX_SHIFT_ALARMS * nominal,
            ),
        )

    @property
    def _about_the_server(self) -> tuple[Claim, ...]:
        counters = self.served.counters
        told = [alert_id for each in self.served.answers.values() for alert_id in each.alert_ids]
        logged = [alert.alert_id for alert in self.served.alerts]
        return (
            Claim(
                f"/metrics counts what the client counted: {counters.scored} images scored, "
                f"{counters.alerts} alerts",
                counters == self.counted,
            ),
            Claim(
                f"the alert log holds the {len(told)} alerts the client was told of, and no other",
                sorted(told) == sorted(logged) and len(set(told)) == self.counted.alerts,
            ),
            Claim(
                f"the server drained on SIGTERM and left with status {self.served.exit_status}",
                self.served.exit_status == 0,
            ),
        )
