"""How channels to this service behave: balanced over replicas, watching health, retrying reads.

``deploy/client/service_config.json`` is the same for clients in any language.
"""

from typing import Any, Final

_READS: Final = {
    "mad.v1.ScoringService": ("Score", "ScoreStream", "Explain"),
    "mad.v1.BaselineService": ("ListBaselines", "GetBaseline", "GetFitJob", "ListFitJobs"),
    "mad.v1.AlertService": ("ListAlerts", "GetAlert", "WatchAlerts", "ListIncidents"),
    "mad.v1.CalibrationService": ("GetCalibration",),
    "mad.v1.StreamService": ("GetStream",),
    "inference.GRPCInferenceService": (
        "ServerLive",
        "ServerReady",
        "ModelReady",
        "ServerMetadata",
        "ModelMetadata",
        "RepositoryIndex",
        "ModelInfer",
        "ModelStreamInfer",
    ),
}
"""Methods that may be sent twice. A score with the same request id raises no second alert."""

SERVICE_CONFIG: Final[dict[str, Any]] = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": ""},
    "methodConfig": [
        {
            "name": [
                {"service": service, "method": method}
                for service, methods in _READS.items()
                for method in methods
            ],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 20, "tokenRatio": 0.5},
}
"""Round robin over the addresses of a target that report SERVING. No method has a deadline here:
clients set their own, since gRPC would take the smaller of the two."""
