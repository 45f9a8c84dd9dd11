"""Is the gateway itself well: its books, what it tells others, its processes, and whether replicas agree."""

from __future__ import annotations

from frame import framed
from panels import BAD, COUNT, GOOD, PLAIN, SECONDS, SHARE, WARN, Ask, bars, curves, happenings, number, rows, states
from promql import events, gained, ours, per_second

INSTANCE = 'instance=~"$instance"'
PERCENT_OF_A_CORE, BYTES, PER_SECOND = "percentunit", "bytes", "cps"

FILES = f"process_max_fds{{{INSTANCE}}}"
CPU = f"(rate(process_cpu_seconds_total{{{INSTANCE}}}[$__rate_interval]) and on (job, instance) tollgate_build_info)"


def _each(metric: str) -> list[Ask]:
    """A gauge of each replica."""
    return [Ask(f"max by (instance) ({metric}{{{INSTANCE}}})", "{{instance}}")]


REPLICAS = [
    (4, number(
        "Replicas",
        "Gateways that Prometheus reaches; fewer than you run means that some do not answer at /metrics.",
        f"count(count by (job, instance) ({ours('up')} == 1))", COUNT, [(1, GOOD)], BAD,
    )),
    (4, number(
        "Workers",
        "Processes over all replicas; they share ports and books.",
        f"sum(max by (job, instance) (tollgate_workers{{{INSTANCE}}}))", COUNT, colour=PLAIN,
    )),
    (4, states(
        "Store",
        "Whether the books can be asked, as each replica sees it; down, store.on_outage decides about calls with a budget.",
        Ask(f"min by (instance) (tollgate_store_up{{{INSTANCE}}})", "{{instance}}"), ("down", "up"),
    )),
    (12, states(
        "Checks",
        "What /health/ready looks at, worst replica each; one that fails takes its replica out of rotation and its text says why.",
        Ask(f"min by (check) (tollgate_check_up{{{INSTANCE}}})", "{{check}}"), ("failing", "passing"),
    )),
]  # fmt: skip
BOOKS = [
    (8, curves(
        "Queue",
        "Finished calls that wait to be booked; a queue that grows for minutes is a store that is too slow.",
        _each("llm_queue_depth"), COUNT, [(1000, WARN)],
    )),
    (8, curves(
        "Journal",
        "Settlements on the local disk that the store does not have yet; it should fall to 0 when the store is back.",
        _each("tollgate_journal_settlements"), COUNT, [(1000, WARN)],
    )),
    (8, curves(
        "Active requests",
        "Calls on their way by replica; replicas that differ much are not evenly loaded.",
        [Ask(f"sum by (instance) (llm_active_requests{{{INSTANCE}}})", "{{instance}}")], COUNT,
    )),
]  # fmt: skip
TELLING = [
    (12, curves(
        "Telemetry exported",
        "Spans, metrics and MLflow traces a second that were sent, by outcome; failed ones point at their collector.",
        [Ask(per_second("tollgate_telemetry_exported_total", "signal, outcome", INSTANCE), "{{signal}}: {{outcome}}")],
        PER_SECOND, stacked=True,
    )),
    (12, happenings(
        "Telemetry dropped",
        "What was given up because its receiver was slow or away; calls did not notice, but traces have holes here.",
        [Ask(events("tollgate_telemetry_dropped_total", "signal", INSTANCE), "{{signal}}")],
    )),
    (12, happenings(
        "Sink errors",
        "Batches that the log, the metrics or another sink failed to take; the gateway's log names the error once.",
        [Ask(events("tollgate_sink_errors_total", "sink", INSTANCE), "{{sink}}")],
    )),
    (12, happenings(
        "Webhook deliveries",
        "Messages to Slack, PagerDuty or others by outcome; failed ones are in the log with their status.",
        [Ask(events("tollgate_webhook_deliveries_total", "kind, outcome", INSTANCE), "{{kind}}: {{outcome}}")],
    )),
]  # fmt: skip
PROCESSES = [
    (8, curves(
        "Memory",
        "Resident memory of each replica; a line that climbs for days without load is a leak worth reporting.",
        [Ask(f"sum by (instance) {ours('process_resident_memory_bytes')}", "{{instance}}")], BYTES,
    )),
    (8, curves(
        "CPU",
        "Cores in use; one worker uses at most one, so near its workers a replica wants more of them.",
        [Ask(f"sum by (instance) {CPU}", "{{instance}}")], PERCENT_OF_A_CORE,
    )),
    (8, curves(
        "Open files",
        "Share of the files and sockets that a process may open; at 1 it accepts no connection, raise its ulimit.",
        [Ask(f"max by (instance) ({ours('process_open_fds')} / {FILES})", "{{instance}}")],
        SHARE, [(0.8, WARN), (1, BAD)],
    )),
]  # fmt: skip
AGREEMENT = [
    (8, curves(
        "Configs in force",
        "Replicas by version of their config; two lines for longer than a roll-out are replicas that disagree.",
        [Ask("count by (version) (tollgate_config_version_info)", "{{version}}")], COUNT, stacked=True,
    )),
    (8, curves(
        "Price books in force",
        "Replicas by price book; two at once price the same call differently.",
        [Ask("count by (version) (tollgate_pricebook_info)", "{{version}}")], COUNT, stacked=True,
    )),
    (8, curves(
        "Versions of the gateway",
        "Replicas by release; a mark at the top is where a new one appeared.",
        [Ask("count by (version) (tollgate_build_info)", "{{version}}")], COUNT, stacked=True,
    )),
]  # fmt: skip
MODELS = [
    (12, bars(
        "Calls without a price",
        "Calls charged by estimate because their model has no price; add one to pricing.overrides, then tollgate correct.",
        [Ask(f"topk(15, {gained('llm_unpriced_total', 'model')} > 0)", "{{model}}")], COUNT, [(1, WARN)],
    )),
    (12, rows(
        "Uptime",
        "How long each replica has run; one that is always young restarts again and again.",
        [("uptime", f"min by (instance) (time() - {ours('process_start_time_seconds')})", SECONDS)], SECONDS,
    )),
]  # fmt: skip

TEXT = framed(
    "internals",
    "Tollgate: gateway internals",
    "Is the gateway itself well: its books, what it tells others, its processes, and whether replicas agree.",
    [("instance", "tollgate_build_info", "instance")],
    [
        ("At a glance", 5, REPLICAS),
        ("Books", 8, BOOKS),
        ("What is told to others", 8, TELLING[:2]),
        ("What could not be told", 8, TELLING[2:]),
        ("Processes", 8, PROCESSES),
        ("What is in force", 8, AGREEMENT),
        ("Prices and restarts", 8, MODELS),
    ],
)
