"""Every kind by its name: encoders as files have them, learners as plans ask for them."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Final

from torch import Tensor

from mad.components.dictionaries.base import Encoder, Learner
from mad.components.dictionaries.initial import Start
from mad.components.dictionaries.kinds import lp
from mad.components.dictionaries.kinds.batch_topk import BatchTopKLearner
from mad.components.dictionaries.kinds.bilinear import BilinearEncoder
from mad.components.dictionaries.kinds.bits import BitsLearner
from mad.components.dictionaries.kinds.gated import GatedEncoder, GatedLearner
from mad.components.dictionaries.kinds.jumprelu import JumpReLUEncoder, JumpReLULearner
from mad.components.dictionaries.kinds.matryoshka import MatryoshkaLearner
from mad.components.dictionaries.kinds.meta import MetaEncoder, MetaLearner
from mad.components.dictionaries.kinds.relu import ReLUEncoder, ReLULearner
from mad.components.dictionaries.kinds.switch import SwitchEncoder, SwitchLearner
from mad.components.dictionaries.kinds.topk import TopKEncoder, TopKLearner
from mad.components.dictionaries.plan import DictionaryPlan, Kind
from mad.errors import ConfigError

ENCODERS: Final[Mapping[str, type[Encoder]]] = {
    encoder.kind: encoder
    for encoder in (
        TopKEncoder,
        BilinearEncoder,
        MetaEncoder,
        SwitchEncoder,
        ReLUEncoder,
        GatedEncoder,
        JumpReLUEncoder,
    )
}

LEARNERS: Final[Mapping[Kind, Callable[[Start, DictionaryPlan], Learner]]] = {
    "topk": TopKLearner.begin,
    "relu": ReLULearner.begin,
    "lp": lp.begin,
    "gated": GatedLearner.begin,
    "switch": SwitchLearner.begin,
    "jumprelu": JumpReLULearner.begin,
    "batch_topk": BatchTopKLearner.begin,
    "matryoshka": MatryoshkaLearner.begin,
    "bits": BitsLearner.begin,
}


def learner_of(start: Start, plan: DictionaryPlan) -> Learner:
    """Return the learner that a plan asks for, beside a meta-dictionary where it asks for one.

    Raises:
        ConfigError: when the kind cannot be trained as planned.
    """
    learner = LEARNERS[plan.kind](start, plan)
    return MetaLearner.begin(learner, plan) if plan.meta_width else learner


def taken_apart(
    encoder: Encoder, *, prefix: str = "encoder."
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return an encoder's tensors by name, and a JSON description of the rest."""
    found: dict[str, Tensor] = {}
    settings: dict[str, Any] = {"kind": encoder.kind}
    for field in fields(encoder):  # type: ignore[arg-type]  # every encoder is a dataclass
        value = getattr(encoder, field.name)
        match value:
            case Tensor():
                found[prefix + field.name] = value
            case bool() | int() | float() | str():
                settings[field.name] = value
            case _:
                inner, settings[field.name] = taken_apart(value, prefix=f"{prefix}{field.name}.")
                found |= inner
    return found, settings


def put_together(
    weights: Mapping[str, Tensor], settings: Mapping[str, Any], *, prefix: str = "encoder."
) -> Encoder:
    """Return the encoder that was taken apart.

    Raises:
        ConfigError: the kind is unknown, or its tensors or settings are not those of the kind.
    """
    kind = settings["kind"]
    if kind not in ENCODERS:
        raise ConfigError(f"dictionary kind {kind!r} is none of {', '.join(ENCODERS)}")
    own = {
        name.removeprefix(prefix): tensor
        for name, tensor in weights.items()
        if name.startswith(prefix) and "." not in name.removeprefix(prefix)
    }
    plain = {
        name: put_together(weights, value, prefix=f"{prefix}{name}.")
        if isinstance(value, Mapping)
        else value
        for name, value in settings.items()
        if name != "kind"
    }
    try:
        return ENCODERS[kind](**own, **plain)
    except TypeError as cause:
        raise ConfigError(f"this is no {kind} dictionary: {cause}; train it again") from cause
