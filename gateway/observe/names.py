"""Every metric: name, kind, labels, help and buckets, once. ``caller`` stands for the caller labels that the config keeps."""

from __future__ import annotations

OF_A_CALL = ("caller", "provider", "model")

READ = {
    "input": "input",
    "audio_in": "input",
    "image_in": "input",
    "cached_input": "cached_input",
    "cached_audio": "cached_input",
    "cached_image": "cached_input",
    "cache_write": "cache_write",
    "cache_write_1h": "cache_write",
}
WRITTEN = {"output": "output", "audio_out": "output", "image_out": "output", "reasoning": "reasoning"}
"""Units of usage that are tokens, and the ``type`` under which ``llm_tokens_total`` counts each."""

DURATION_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""OTel GenAI semantic conventions 1.41: gen_ai.server.request.duration."""
TTFT_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""gen_ai.server.time_to_first_token."""
TPOT_BUCKETS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
"""gen_ai.server.time_per_output_token."""
RATIO_BUCKETS = (0.5, 0.8, 0.9, 0.95, 0.98, 0.995, 1.005, 1.02, 1.05, 1.1, 1.25, 2.0)
OVERHEAD_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)

COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "llm_requests_total": ("Calls, by how they were answered.", (*OF_A_CALL, "status")),
    "llm_tokens_total": ("Tokens, by kind.", (*OF_A_CALL, "type")),
    "llm_cost_usd_total": ("Dollars spent.", OF_A_CALL),
    "llm_cost_corrections_usd_total": (
        "Dollars by which estimates were too low (up) or too high (down).",
        ("direction",),
    ),
    "llm_errors_total": ("Calls that did not end well, by kind of error.", (*OF_A_CALL, "error_type")),
    "llm_usage_source_total": ("Metered calls, by who counted: provider, counted or estimated.", ("source",)),
    "llm_unpriced_total": ("Calls charged by estimate because their model has no price.", ("model",)),
    "llm_budget_rejections_total": ("Calls that a budget refused.", ("budget",)),
    "llm_limit_rejections_total": (
        "Calls that a limit on requests, tokens or calls in flight refused.",
        ("limit", "scope", "unit"),
    ),
    "llm_budget_shadow_rejections_total": ("Calls that a budget in shadow mode would have refused.", ("budget",)),
    "llm_budget_overdraft_usd_total": ("Dollars spent past a limit.", ("budget",)),
    "llm_budget_unheld_calls_total": (
        "Calls that a budget or limit applies to and that went on while the store was down.",
        (),
    ),
    "llm_budget_notices_total": ("Thresholds of a budget (notify_at) that were crossed.", ("budget", "percent")),
    "tollgate_webhook_deliveries_total": (
        "Events for a webhook (alerts.webhooks), by what came of them: delivered, failed or dropped.",
        ("kind", "outcome"),
    ),
    "tollgate_telemetry_exported_total": (
        "Calls (as spans) or points (of metrics) that were sent to a receiver, by how it went: exported or failed.",
        ("signal", "outcome"),
    ),
    "tollgate_telemetry_dropped_total": (
        "Calls (as spans) or points (of metrics) that found no room to wait for their receiver.",
        ("signal",),
    ),
    "llm_upstream_attempts_total": (
        "Requests sent to an upstream, by how each went: ok, error, timeout, unreachable or disconnected.",
        ("upstream", "outcome"),
    ),
    "tollgate_provider_key_calls_total": (
        "Requests sent with one of an upstream's several keys: as llm_upstream_attempts_total, or rejected or rate_limited.",
        ("upstream", "provider_key", "outcome"),
    ),
    "llm_target_calls_total": ("Calls (or requests) that a target speaks of.", ("target",)),
    "llm_target_violations_total": ("Those of them that missed it.", ("target",)),
    "tollgate_sink_errors_total": ("Batches of records that a sink failed to take.", ("sink",)),
}
HISTOGRAMS: dict[str, tuple[str, tuple[str, ...], tuple[float, ...]]] = {
    "llm_request_duration_seconds": ("From the request's head to the answer's end.", OF_A_CALL, DURATION_BUCKETS),
    "llm_time_to_first_token_seconds": ("From the request's head to the answer's.", OF_A_CALL, TTFT_BUCKETS),
    "llm_time_per_output_token_seconds": ("Streams: time per token after the first.", OF_A_CALL, TPOT_BUCKETS),
    "tollgate_own_count_ratio": (
        "Tokens that the gateway counts for one that the provider tells, in some of the calls.",
        ("provider", "model", "type"),
        RATIO_BUCKETS,
    ),
    "tollgate_overhead_seconds": (
        "What the gateway took: of a call before the request left (admit), of a batch of calls that had ended (settle).",
        ("phase",),
        OVERHEAD_BUCKETS,
    ),
    "tollgate_store_seconds": (
        "What the store took: to grant or refuse a call (reserve), to book a batch of them (settle).",
        ("operation",),
        OVERHEAD_BUCKETS,
    ),
}
GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "llm_active_requests": ("Calls on their way.", ("provider",)),
    "llm_queue_depth": ("Finished calls that wait to be settled.", ()),
    "llm_budget_limit_usd": ("The limit of a budget.", ("budget", "scope", "window")),
    "llm_budget_spent_usd": ("What was spent of it in its current window.", ("budget", "scope", "window")),
    "llm_budget_held_usd": ("What running calls hold of it.", ("budget", "scope", "window")),
    "llm_upstream_up": ("1 while calls to an upstream come through, 0 while its newest ones all fail.", ("upstream",)),
    "tollgate_provider_keys_set_aside": (
        "Keys of an upstream that has several which take no turns at the moment: the provider rejects or limits them.",
        ("upstream",),
    ),
    "tollgate_check_up": ("0 for a health check that failed, else 1.", ("check",)),
    "llm_target_compliance_ratio": (
        "The share of a target's calls that met it, over all processes, in a window: 1h, 24h or 7d.",
        ("target", "window"),
    ),
    "llm_target_objective_ratio": ("The share that must meet it.", ("target",)),
    "tollgate_store_up": ("1 while the store answers.", ()),
    "tollgate_journal_settlements": ("Settlements that stand in the journal and not in the store yet.", ()),
    "tollgate_config_version_info": ("The config in force.", ("version",)),
    "tollgate_entries_revision": (
        "The newest decision of an operator that this process follows: replicas that agree show the same.",
        (),
    ),
    "tollgate_keys": ("Gateway keys, of the config and made at run time: active, expired or revoked.", ("state",)),
    "tollgate_annotations_total": ("Annotations that were added, by their first tag.", ("tag",)),
    "tollgate_pricebook_info": ("The price book in force.", ("version",)),
    "tollgate_build_info": ("The version of the gateway.", ("version",)),
    "tollgate_workers": ("Processes that serve calls.", ()),
    "process_cpu_seconds_total": ("Processor time spent, user and system.", ()),
    "process_resident_memory_bytes": ("Memory in use.", ()),
    "process_virtual_memory_bytes": ("Memory that is mapped.", ()),
    "process_start_time_seconds": ("When the process began, in seconds since 1970.", ()),
    "process_open_fds": ("Open file descriptors.", ()),
    "process_max_fds": ("Most file descriptors that it may open.", ()),
}
"""Read at each scrape. What ends in _total is a counter all the same."""

SUM, LEAST, MOST = "sum", "least", "most"
OVER_WORKERS: dict[str, str] = {
    "llm_active_requests": SUM,
    "llm_queue_depth": SUM,
    "llm_upstream_up": LEAST,
    "tollgate_provider_keys_set_aside": MOST,
    "tollgate_check_up": LEAST,
    "tollgate_store_up": LEAST,
    "tollgate_journal_settlements": SUM,
    "tollgate_config_version_info": MOST,
    "tollgate_entries_revision": LEAST,
    "tollgate_annotations_total": MOST,
    "tollgate_workers": SUM,
    "process_resident_memory_bytes": SUM,
    "process_virtual_memory_bytes": SUM,
    "process_start_time_seconds": LEAST,
    "process_open_fds": SUM,
    "process_max_fds": LEAST,
}
"""What a gauge is over several workers. The others are of what all have in common, and the first worker's word is enough. Counters are
added up, but for one of what every worker sees.
"""
