"""Which role each method needs. A method without a row is denied to everybody."""

from collections.abc import Mapping
from typing import Final

from mad.service.caller import ROLES, Role

_Roles = frozenset[Role]

_READERS: Final[_Roles] = frozenset({"score.read", "fit", "promote", "alerts.read"})
_SCORES: Final[_Roles] = frozenset({"score.read", "score.coarse"})
_READ: Final[_Roles] = frozenset({"score.read"})
_INFER: Final[_Roles] = frozenset({"infer"})
_FIT: Final[_Roles] = frozenset({"fit"})
_PROMOTE: Final[_Roles] = frozenset({"promote"})
_ALERTS: Final[_Roles] = frozenset({"alerts.read"})
_ACKNOWLEDGE: Final[_Roles] = frozenset({"alerts.ack"})

_SERVICES: Final[Mapping[str, Mapping[str, _Roles]]] = {
    "mad.v1.ScoringService": {"Score": _SCORES, "ScoreStream": _SCORES, "Explain": _READ},
    "mad.v1.BaselineService": {
        "ListBaselines": _READERS,
        "GetBaseline": _READERS,
        "FitBaseline": _FIT,
        "GetFitJob": _FIT,
        "ListFitJobs": _FIT,
        "CancelFitJob": _FIT,
        "EvaluateBaseline": _PROMOTE,
        "PromoteBaseline": _PROMOTE,
        "RollbackBaseline": _PROMOTE,
        "DeleteBaseline": _PROMOTE,
    },
    "mad.v1.AlertService": {
        "ListAlerts": _ALERTS,
        "GetAlert": _ALERTS,
        "WatchAlerts": _ALERTS,
        "ListIncidents": _ALERTS,
        "AcknowledgeAlert": _ACKNOWLEDGE,
    },
    "mad.v1.CalibrationService": {"GetCalibration": _READERS},
    "mad.v1.StreamService": {"GetStream": _READERS, "ResetStream": _ACKNOWLEDGE},
    "inference.GRPCInferenceService": dict.fromkeys(
        (
            *("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata"),
            *("ModelInfer", "ModelStreamInfer", "RepositoryIndex"),
        ),
        _INFER,
    ),
    "envoy.service.ext_proc.v3.ExternalProcessor": {"Process": _READ},
    # What a balancer asks before it knows anybody's token.
    "grpc.health.v1.Health": dict.fromkeys(("Check", "Watch", "List"), frozenset[Role]()),
    "grpc.reflection.v1alpha.ServerReflection": {"ServerReflectionInfo": ROLES},
    "grpc.reflection.v1.ServerReflection": {"ServerReflectionInfo": ROLES},
}

METHODS: Final[Mapping[str, _Roles]] = {
    f"/{service}/{method}": roles
    for service, methods in _SERVICES.items()
    for method, roles in methods.items()
}
"""Roles by path, of which a caller needs one; where there are none, nobody is asked who calls."""
