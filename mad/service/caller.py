"""Who is calling, as handlers see it."""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final, get_args

Role: TypeAlias = Literal[
    "infer", "score.read", "score.coarse", "fit", "promote", "alerts.read", "alerts.ack", "admin"
]
"""What a caller may do: run the model; read scores, or only rounded ones; send trusted data; make a
baseline active; read alerts; say what they are; everything."""

ROLES: Final[frozenset[Role]] = frozenset(get_args(Role))


@final
@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who calls; ``name`` is empty where nobody was asked."""

    name: str
    roles: frozenset[Role]


ANYONE: Final = Principal("", ROLES)
"""The caller of a server that asks nobody who they are."""

caller: Final[ContextVar[Principal]] = ContextVar("caller", default=ANYONE)
"""The caller of the request being answered."""
