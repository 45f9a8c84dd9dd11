// How long calls take, by whatever they are told apart by, and how well targets are met.
import { ask, withQuery } from "./api.js";
import { choice, h, table } from "./dom.js";
import { count, ms, percent, rate } from "./format.js";
import { adjust } from "./route.js";
import { part } from "./screen.js";

const BY = [["model", "Model"], ["upstream", "Upstream"], ["call_type", "Call type"]];
const WINDOWS = [["5m", "5 minutes"], ["1h", "1 hour"]];

export function latencyPart(view, { whole = false } = {}) {
  const asked = { window: view.query.window || "5m", by: view.query.by || "model" };
  const change = (more) => { Object.assign(asked, more); adjust(more); shown.refresh(); };
  const shown = part(view, "Latency", {
    every: 5000, level: whole ? "h1" : "h2",
    controls: h("div", { class: "controls" }, choice("By", BY, asked.by, (by) => change({ by })), choice("Window", WINDOWS, asked.window, (window) => change({ window }))),
    look: () => ask(withQuery("api/v1/latency", asked)),
    draw: ({ rows, all, window }) => (all?.calls ? ranks(rows.slice(0, 100), all, window) : h("p", { class: "empty" }, "No call ended in this window.")),
  });
  return shown.element;
}

function ranks(rows, all, window) {
  const longest = Math.max(1, ...rows.map((row) => row.latency_ms?.p95 || 0));
  const columns = [
    { head: "", cls: "name", cell: (row) => (row.all ? "All calls" : row.value || h("span", { class: "none" }, "not said")) },
    { head: "Calls", n: true, from: "s", cell: (row) => count(row.calls) },
    { head: "First token p50", n: true, cell: (row) => ms(row.ttft_ms?.p50) },
    { head: "p95", n: true, cell: (row) => ms(row.ttft_ms?.p95) },
    { head: "Whole call p50", n: true, from: "s", cell: (row) => ms(row.latency_ms?.p50) },
    { head: "p90", n: true, from: "m", cell: (row) => ms(row.latency_ms?.p90) },
    { head: "p95", n: true, from: "s", cell: (row) => ms(row.latency_ms?.p95) },
    { head: "p99", n: true, from: "m", cell: (row) => ms(row.latency_ms?.p99) },
    { head: h("span", { class: "unseen" }, "p50 to p95"), cls: "range-cell", from: "l", cell: (row) => (row.latency_ms ? range(row.latency_ms, longest) : "") },
  ];
  return table(`Latency in the last ${window}`, columns, [{ ...all, all: true }, ...rows], { class: "ranks", rowClass: (row) => (row.all ? "all" : null) });
}

/** From the median to the 95th of a hundred, on one scale for all rows. */
function range({ p50, p95 }, longest) {
  const left = (Math.min(p50, longest) / longest) * 100;
  return h("span", { class: "range" }, h("i", { style: { left: `${left}%`, width: `${Math.max(1, (Math.min(p95, longest) / longest) * 100 - left)}%` } }));
}

export function targetsPart(view) {
  return part(view, "Targets", {
    every: 15_000,
    look: () => ask("api/v1/targets"),
    draw: ({ targets }) => (targets.length ? table("Targets and how well they were met", columns(), targets.slice(0, 100), { class: "targets" })
      : h("p", { class: "empty" }, "Nothing is promised yet. A line in the config does: ", h("code", null, "targets: [{name: chat, latency_ms: 2000, objective: 0.95}]"))),
  }).element;
}

function columns() {
  const met = (window) => (target) => {
    const { compliance } = target.windows[window];
    return h("span", { class: compliance !== null && compliance < target.objective ? "bad" : null }, percent(compliance, 1));
  };
  const burn = ({ windows }) => {
    const speed = windows["1h"].burn;
    return windows["1h"].calls ? h("span", { class: speed >= 14.4 ? "bad" : speed > 1 ? "warn" : null }, `${rate(speed)}×`) : "–";
  };
  return [
    { head: "Target", cls: "name", cell: (target) => [target.name, " ", h("small", null, promise(target))] },
    { head: "Promised", n: true, from: "s", cell: (target) => percent(target.objective, String(target.objective).length > 4 ? 1 : 0) },
    { head: "1 h", n: true, cell: met("1h") },
    { head: "24 h", n: true, from: "s", cell: met("24h") },
    { head: "7 d", n: true, cell: met("7d") },
    { head: "Budget left", n: true, from: "s", cell: ({ windows }) => percent(Math.max(0, windows["7d"].error_budget_left)) },
    { head: "Burn", n: true, cell: burn },
  ];
}

const promise = (target) => [target.latency_ms && `${target.of === "request" ? "request" : "call"} ≤ ${ms(target.latency_ms)}`, target.ttft_ms && `first token ≤ ${ms(target.ttft_ms)}`].filter(Boolean).join(", ");
