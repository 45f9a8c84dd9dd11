"""What is limited, what is left, who was refused, and when it will be used up."""

from __future__ import annotations

from frame import OF_CALLS, framed
from panels import BAD, COUNT, DOLLARS, SECONDS, SHARE, WARN, Ask, bars, curves, happenings, number, rows
from promql import ACCOUNT, CALLS, account, events, gained

NAMED = "{{budget}} {{scope}}"
LIMIT, SPENT, HELD = (account(f"llm_budget_{each}_usd") for each in ("limit", "spent", "held"))
LEFT = f"clamp_min({LIMIT} - {SPENT} - {HELD}, 0)"
USED = f"({SPENT} + {HELD}) / {LIMIT}"
PACE = f'max by ({ACCOUNT}) (deriv(llm_budget_spent_usd{{budget=~"$budget"}}[1h])) > 0'
"""Dollars a second over the last hour; an account that rests, or has just begun anew, has none."""

ACCOUNTS = [
    (16, rows(
        "Budgets",
        "Limit, spent, held by running calls, and left, of each account now; raise a limit in the config, it is taken over at once.",
        [("limit", LIMIT, DOLLARS), ("spent", SPENT, DOLLARS), ("held", HELD, DOLLARS), ("left", LEFT, DOLLARS),
         ("used", USED, SHARE)], DOLLARS,
    )),
    (8, bars(
        "Nearest to their limit",
        "Share of its limit that an account has spent or set aside; those in red refuse calls.",
        [Ask(f"topk(15, {USED})", NAMED)], SHARE, [(0.8, WARN), (1, BAD)],
    )),
]  # fmt: skip
COURSE = [
    (12, curves(
        "Used over time",
        "Share of its limit that an account has spent or set aside; a saw-tooth is the window starting again.",
        [Ask(f"topk(15, {USED})", NAMED)], SHARE, [(0.8, WARN), (1, BAD)],
    )),
    (12, bars(
        "Projected exhaustion",
        "Time until nothing is left at the pace of the last hour; shorter than what remains of the window means refusals are coming.",
        [Ask(f"bottomk(15, {LEFT} / ({PACE}))", NAMED)], SECONDS, [(3600, WARN), (86400, "green")], BAD,
    )),
]  # fmt: skip
HOLDS = [
    (12, curves(
        "Held by running calls",
        "Dollars that are set aside and not spent yet; what stays held without calls was left by a process that died, until its lease ends.",
        [Ask(f"topk(15, {HELD})", NAMED)], DOLLARS, stacked=True,
    )),
    (12, bars(
        "Who spends it",
        "Dollars by team and agent in the time shown; here is what to talk about when a budget runs out.",
        [Ask(f"topk(15, {gained('llm_cost_usd_total', 'team, agent', CALLS)})", "{{team}} / {{agent}}")], DOLLARS,
    )),
]  # fmt: skip
NOTICES = [
    (12, happenings(
        "Rejections",
        "Calls that a budget refused; their callers got a 429 that says when it resets.",
        [Ask(events("llm_budget_rejections_total", "budget", 'budget=~"$budget"'), "{{budget}}")],
    )),
    (12, happenings(
        "Shadow rejections",
        "Calls that a budget in shadow mode would have refused; when that is what you want, set its mode to hard.",
        [Ask(events("llm_budget_shadow_rejections_total", "budget", 'budget=~"$budget"'), "{{budget}}")],
    )),
    (12, happenings(
        "Notices",
        "Thresholds (notify_at) that were crossed, once a window each; the mark at the top of each graph is the same.",
        [Ask(events("llm_budget_notices_total", "budget, percent", 'budget=~"$budget"'), "{{budget}}: {{percent}} %")],
    )),
    (12, happenings(
        "Overdraft",
        "Dollars spent past a limit: streams that outgrew their hold; on_exhausted: cut or mode: strict ends that.",
        [Ask(events("llm_budget_overdraft_usd_total", "budget", 'budget=~"$budget"'), "{{budget}}")], DOLLARS,
    )),
]  # fmt: skip
OUTAGES = [
    (8, number(
        "Calls that no budget saw",
        "Calls that went on while the store was down (store.on_outage: open); their cost is booked when it is back.",
        gained("llm_budget_unheld_calls_total") + " or vector(0)", COUNT, [(1, WARN)],
    )),
    (16, curves(
        "Corrections",
        "Dollars an hour by which estimates were too low (up) or too high (down); a steady one is a price to put right.",
        [Ask("sum by (direction) (rate(llm_cost_corrections_usd_total[$__rate_interval])) * 3600", "{{direction}}")],
        DOLLARS,
    )),
]  # fmt: skip

TEXT = framed(
    "budgets",
    "Tollgate: budgets",
    "What is limited, what is left, who was refused, and when it will be used up.",
    [("budget", "llm_budget_limit_usd", "budget"), *OF_CALLS],
    [
        ("Accounts", 10, ACCOUNTS),
        ("Course", 9, COURSE),
        ("Held and spent", 9, HOLDS),
        ("Refusals and notices", 8, NOTICES[:2]),
        ("Thresholds and overdraft", 8, NOTICES[2:]),
        ("While the store was down, and afterwards", 6, OUTAGES),
    ],
)
