"""What the demo found, and the claims that must hold of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from mad.baseline.bundle import Manifest
from mad.calibration.health import binomial_interval
from mad.demo.attack import Served
from mad.demo.compare import SURPRISE, Detection
from mad.demo.stream import Counters
from mad.demo.train import Skill

MIN_RECALL = 0.9
MIN_ATTACK_SUCCESS = 0.95
MAX_ACCURACY_LOSS = 0.01
CONFIDENCE = 0.99


@dataclass(frozen=True)
class Claim:
    """A sentence with this run's figures, and whether it is true."""

    sentence: str
    holds: bool


@dataclass(frozen=True)
class Findings:
    """Everything the closing tables show; ``detection`` is by name of the score."""

    skill: Skill
    manifest: Manifest
    served: Served
    detection: Mapping[str, Detection]

    def alarm_interval(self, kind: str) -> tuple[float, float]:
        """Return the exact 99 % interval of the alarm rate on one kind of traffic."""
        answers = self.served.answers[kind]
        return binomial_interval(answers.alarms, len(answers.surprise), confidence=CONFIDENCE)

    @property
    def counted(self) -> Counters:
        """What the counters must say, by the client's own count."""
        answers = self.served.answers.values()
        alarms = sum(each.alarms for each in answers)
        return Counters(sum(len(each.surprise) for each in answers), alarms, alarms)

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
        recall = self.detection[SURPRISE].recall.value
        nominal = self.manifest.false_alarm_rate
        low, high = self.alarm_interval("ordinary")
        return (
            Claim(
                f"surprise finds {recall:.1%} of triggered images at 1 % false alarms, "
                f"at least {MIN_RECALL:.0%}",
                recall >= MIN_RECALL,
            ),
            Claim(
                f"the {CONFIDENCE:.0%} interval of the false-alarm rate, {low:.2%} to {high:.2%}, "
                f"contains the nominal {nominal:.2%}",
                low <= nominal <= high,
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
