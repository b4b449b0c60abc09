"""Every Prometheus series this service exports, in one table.

One shannon is one bit; Prometheus reserves the word "bits" for sizes of data. The p-values are a
histogram with an edge at every false-alarm rate in use, so
``mad_p_value_bucket{le="0.01"} / mad_p_value_count`` is the observed alarm rate at 1 %. One trusted
input in ``2 ** b`` has a surprise, a mechanism or a novelty above ``b`` shannons: a share above
seven, ``1 - mad_novelty_shannons_bucket{le="7.0"} / mad_novelty_shannons_count``, is usually 0.8 %.

With ``traffic="canary"`` the first is the share of planted anomalies found at that rate, all told;
``mad_calibration_observed_ratio`` is that of the last few thousand inputs of a kind, at each rate
in use, and ``_low_`` and ``_high_`` are what the true one is at least and at most, with 99 %
confidence. Wealth is evidence that trusted traffic is not like the reference: if it were, the
chance of ever reaching ``w`` would be at most ``10 ** -w``.
"""

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias, final

Traffic: TypeAlias = Literal["live", "trusted", "canary"]
"""What a request is evidence of: ordinary use, known-ordinary inputs, or planted anomalies."""

Scored: TypeAlias = Traffic | Literal["shadow"]
"""The same, or live traffic as scored by a baseline that is not active."""

TRAFFIC: Final[tuple[Traffic, ...]] = ("live", "trusted", "canary")

SHED_REASONS: Final = ("queue_full", "deadline", "rate_limit", "expired", "draining")
Unscored: TypeAlias = Literal["overloaded", "late", "refused", "draining", "failed"]
"""Why an answer went out without a score."""

UNSCORED: Final[tuple[Unscored, ...]] = ("overloaded", "late", "refused", "draining", "failed")
INVALID_REASONS: Final = ("input", "too_large", "decode", "not_found")
AUTH_REASONS: Final = ("missing", "malformed", "unknown", "certificate", "role", "no_row")
RELOADED: Final = ("tokens", "certificates")
PROBE_REASONS: Final = ("near_threshold", "near_duplicate")
# A rate of errors needs a zero to rise from, so these exist before the first error.
CODES: Final = (
    "OK",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "RESOURCE_EXHAUSTED",
    "DEADLINE_EXCEEDED",
    "CANCELLED",
    "UNAVAILABLE",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "INTERNAL",
)


@final
@dataclass(frozen=True, slots=True)
class Series:
    """One row of the table; only a histogram has bucket edges."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    help: str
    labels: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()


class Rpc(NamedTuple):
    """One method of the gRPC interface, such as unary mad.v1.ScoringService Score."""

    kind: Literal["unary", "client_stream", "server_stream", "bidi_stream"]
    service: str
    method: str


_RPC = ("grpc_type", "grpc_service", "grpc_method")
_MODEL = ("model",)
_BASELINE = ("model", "baseline")
_TRAFFIC = ("model", "baseline", "traffic")
_REVISION = ("model", "baseline", "revision", "digest", "alert_on")
_ALPHA = ("model", "baseline", "traffic", "alpha")
_SITE = ("model", "baseline", "traffic", "site")
_CHANNEL = ("model", "baseline", "channel")
_STAGE = ("model", "stage")
_REASON = ("model", "reason")
_OUTCOME = ("model", "alias", "outcome")
_DISPOSITION = ("model", "disposition")
_RELOAD = ("model", "what", "outcome")
_STATE = ("model", "state")
_BUILD = ("version", "revision", "python", "torch")

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LONG_SECONDS = (1, 2.5, 5, 10, 25, 60, 120, 300, 600, 1800, 3600, 7200, 14400)
_SHANNONS = (0, 8, 16, 32, 64, 128, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192, 16384)
# Half of all trusted inputs are below one bit and one in 4,096 above twelve, whatever the model;
# thresholds lie between.
_RARITY = (*(halves / 2 for halves in range(25)), 14, 16, 20, 50, 100, 1000)
_POWERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_P_VALUES = (
    *(1e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05),
    *(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
)

TABLE: Final = (
    Series("counter", "grpc_server_started_total", "Calls started.", _RPC),
    Series("counter", "grpc_server_handled_total", "Calls ended.", (*_RPC, "grpc_code")),
    Series("histogram", "grpc_server_handling_seconds", "Time of a call.", _RPC, _SECONDS),
    Series("counter", "grpc_server_msg_received_total", "Messages of callers.", _RPC),
    Series("counter", "grpc_server_msg_sent_total", "Messages to callers.", _RPC),
    Series("counter", "mad_inputs_scored_total", "Inputs scored.", _TRAFFIC),
    Series("histogram", "mad_surprise_shannons", "Rarity of an input.", _TRAFFIC, _RARITY),
    Series("histogram", "mad_mechanism_shannons", "Rarity of its mechanism.", _TRAFFIC, _RARITY),
    Series("histogram", "mad_novelty_shannons", "Rarity of the rest of it.", _TRAFFIC, _RARITY),
    Series("histogram", "mad_description_shannons", "Its code length.", _BASELINE, _SHANNONS),
    Series("histogram", "mad_residual_shannons", "That of its residual.", _BASELINE, _SHANNONS),
    Series("histogram", "mad_p_value", "P-value of an input.", _TRAFFIC, _P_VALUES),
    Series("histogram", "mad_components_active", "Active components.", _BASELINE, _POWERS),
    Series("counter", "mad_components_unseen_total", "Live uses of untrusted ones.", _BASELINE),
    Series("gauge", "mad_component_drift_shannons", "What newly fitted coins save.", _SITE),
    Series("gauge", "mad_calibration_observed_ratio", "Share at or under alpha lately.", _ALPHA),
    Series("gauge", "mad_calibration_observed_low_ratio", "It is at least that.", _ALPHA),
    Series("gauge", "mad_calibration_observed_high_ratio", "It is at most that.", _ALPHA),
    Series("gauge", "mad_calibration_ks_ratio", "Trusted traffic's gap.", _BASELINE),
    Series("gauge", "mad_calibration_window_samples", "Trusted inputs lately.", _BASELINE),
    Series("gauge", "mad_calibration_wealth_log10", "Evidence of lost calibration.", _BASELINE),
    Series("counter", "mad_alerts_total", "Alerts written to the alert log.", _BASELINE),
    Series("gauge", "mad_baseline_alpha_ratio", "Nominal false-alarm rate.", _BASELINE),
    Series("gauge", "mad_baseline_info", "Revision that scores.", _REVISION),
    Series("counter", "mad_baseline_reloads_total", "Changes followed or not.", _OUTCOME),
    Series("counter", "mad_shadow_errors_total", "Failures of the shadow baseline.", _MODEL),
    Series("gauge", "mad_baseline_fit_timestamp_seconds", "When it was fitted.", _BASELINE),
    Series("gauge", "mad_baseline_fit_samples", "Inputs the codes were fitted on.", _BASELINE),
    Series("gauge", "mad_baseline_weighing_samples", "Inputs that weigh parts.", _BASELINE),
    Series("gauge", "mad_baseline_reference_samples", "Inputs of the reference.", _BASELINE),
    Series("histogram", "mad_stage_duration_seconds", "Time of a stage.", _STAGE, _SECONDS),
    Series("histogram", "mad_batch_size", "Inputs of one run of the model.", _MODEL, _POWERS),
    Series("gauge", "mad_queue_depth", "Inputs that wait to be scored.", _MODEL),
    Series("gauge", "mad_requests_in_flight", "Requests being answered.", _MODEL),
    Series("counter", "mad_requests_shed_total", "Requests refused, to be retried.", _REASON),
    Series("counter", "mad_unscored_inputs_total", "Inputs answered without a score.", _REASON),
    Series("counter", "mad_invalid_inputs_total", "Requests that cannot be scored.", _REASON),
    Series("counter", "mad_alert_log_errors_total", "Failed writes of the alert log.", _MODEL),
    Series("gauge", "mad_alert_log_pending", "Alerts raised and not yet written.", _MODEL),
    Series("counter", "mad_alerts_acknowledged_total", "Alerts people spoke of.", _DISPOSITION),
    Series("gauge", "mad_incidents_open", "Incidents a like alert would join.", _MODEL),
    Series("histogram", "mad_alert_log_append_seconds", "Time of a write.", _MODEL, _SECONDS),
    Series("gauge", "mad_stream_evidence_shannons", "Evidence against live traffic.", _CHANNEL),
    Series("gauge", "mad_stream_threshold_shannons", "Evidence that alarms.", _CHANNEL),
    Series("gauge", "mad_stream_alarm_timestamp_seconds", "Standing alarm; 0 if none.", _CHANNEL),
    Series("counter", "mad_stream_alarms_total", "Alarms raised.", _CHANNEL),
    Series("gauge", "mad_stream_begin_timestamp_seconds", "Beginning of the stream.", _BASELINE),
    Series("gauge", "mad_stream_inputs", "Inputs since the stream began.", _BASELINE),
    Series("counter", "mad_stream_left_out_inputs_total", "Inputs never counted in.", _MODEL),
    Series("counter", "mad_stream_checkpoint_errors_total", "Failed checkpoints.", _MODEL),
    Series("counter", "mad_auth_failures_total", "Calls refused to their caller.", _REASON),
    Series("counter", "mad_security_reloads_total", "Files read again.", _RELOAD),
    Series("counter", "mad_audit_log_errors_total", "Failed writes of the audit log.", _MODEL),
    Series("counter", "mad_probe_suspicions_total", "Callers who may be probing.", _REASON),
    Series("counter", "mad_fit_jobs_total", "Fit jobs that came to a state.", _STATE),
    Series("histogram", "mad_fit_duration_seconds", "Time of a fit.", _MODEL, _LONG_SECONDS),
    Series("counter", "mad_fit_samples_rejected_total", "Inputs not learnt from.", _REASON),
    Series("counter", "mad_metrics_label_overflow_total", "Counted as of other.", _MODEL),
    Series("gauge", "mad_build_info", "What runs here.", _BUILD),
)
