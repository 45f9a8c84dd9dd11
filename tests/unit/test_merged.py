"""What several workers say of themselves, as one would say it."""

from __future__ import annotations

from typing import Any

from gateway.merged import merged_checks, merged_upstreams

MINUTE = {
    "calls": 2, "answered": 1, "errors": {"429": 1}, "calls_per_s": 0.5, "errors_per_s": 0.25, "input_tokens_per_s": 1.0,
    "output_tokens_per_s": 2.0, "cost_nanousd_per_minute": 5, "cost_usd_per_minute": "0.000000005", "latency_ms": 10.0, "ttft_ms": 4.0,
}  # fmt: skip
NOTHING = MINUTE | {"calls": 0, "answered": 0, "errors": {}, "latency_ms": None, "ttft_ms": None}


def check(status: str, output: str = "") -> dict[str, Any]:
    return {"status": status, "componentType": "system", "time": "t"} | ({"output": output} if output else {})


def test_what_fails_everywhere_has_failed_and_what_fails_somewhere_is_worth_a_look() -> None:
    """The others serve; who it is about is said."""
    ok, bad = check("ok"), check("failed", "full")
    for checks, status, output in (
        ([ok, ok], "ok", None),
        ([bad, bad], "failed", "full"),
        ([ok, bad], "warn", "worker 1: full"),
        ([check("warn", "a"), check("warn", "b")], "warn", "worker 0: a; worker 1: b"),
    ):
        told = {f"{number}-{number}9": {"disk": each} for number, each in enumerate(checks)}
        found = merged_checks(told, [], 2)
        assert (found["disk"]["status"], found["disk"].get("output")) == (status, output)
        assert found["workers"]["status"] == "ok"


def test_workers_that_are_missing_are_counted_and_the_silent_ones_named() -> None:
    """One that is being started again gives no answer because it is not there."""
    found = merged_checks({"0-9": {"disk": check("ok")}}, ["2-7"], 3)["workers"]
    assert (found["status"], found["observedValue"]) == ("warn", 1)
    assert found["output"] == "1 of 3 answer: worker 2 gives no answer"


def test_upstreams_add_up() -> None:
    """Connections and calls are sums, means are of all calls, the newest error and the longest rest of a key stand."""

    def told(state: str, error: str | None, until: str | None, minute: dict[str, Any]) -> list[dict[str, Any]]:
        key = {"name": "a", "weight": 1, "state": "set aside" if until else "ready", "until": until}
        last = {"kind": "500", "at": error} if error else None
        told = {"name": "up", "busy": 1, "idle": 2, "state": state, "last_error": last, "last_minute": minute}
        return [told | {"provider_keys": [key]}]

    slower = MINUTE | {"calls": 6, "answered": 3, "latency_ms": 30.0, "ttft_ms": 8.0, "errors": {"429": 2, "500": 1}}
    [found] = merged_upstreams(
        [
            told("unknown", None, None, NOTHING),
            told("failing", "2026-01-02", "12:00", MINUTE),
            told("up", "2026-01-01", "12:01", slower),
        ]
    )
    assert (found["busy"], found["idle"], found["state"]) == (3, 6, "failing")
    assert found["last_error"]["at"] == "2026-01-02"
    assert found["provider_keys"][0]["until"] == "12:01"
    minute = found["last_minute"]
    assert (minute["calls"], minute["answered"], minute["errors"]) == (8, 4, {"429": 3, "500": 1})
    assert (minute["latency_ms"], minute["ttft_ms"]) == (25.0, 7.0)
    assert (minute["cost_nanousd_per_minute"], minute["cost_usd_per_minute"]) == (15, "0.000000015")


def test_a_minute_without_calls_has_no_means() -> None:
    """None, and no division by nothing."""
    told = [{"name": "up", "busy": 0, "idle": 0, "state": "up", "last_error": None, "last_minute": NOTHING}]
    [found] = merged_upstreams([[each | {"provider_keys": []} for each in told]] * 2)
    assert found["last_minute"]["latency_ms"] is None
