// The present: figures of this minute, and ten minutes of lines.
import { ask } from "./api.js";
import { chart } from "./charts.js";
import { h, swap } from "./dom.js";
import { axisMs, axisUsd, count, ms, percent, rate, usd } from "./format.js";
import { section } from "./screen.js";

const SPAN_S = 600;
const STEP_S = 10;
const points = []; // {t, calls, cost, p50, p95}: the page remembers them, whichever view is open

/** Keep what the gateway says, for the lines. */
export function remember(now) {
  const t = Date.parse(now.at) / 1000;
  if (points.length && t - points[points.length - 1].t < 0.9) return;
  points.push({ t, calls: now.calls_per_s ?? null, cost: now.cost_per_minute_nanousd ?? null, p50: now.ttft_p50_ms ?? now.ttft_mean_ms ?? null, p95: now.ttft_p95_ms ?? null });
  while (points.length && points[0].t < t - SPAN_S - STEP_S) points.shift();
}

/** Lines do not begin empty: calls of the last ten minutes, as far as one page of them reaches, in steps of ten seconds. */
export async function recall() {
  const { calls } = await ask("api/v1/calls?limit=500");
  const now = Date.now() / 1000;
  const ends = calls.map((call) => [(Date.parse(call.started_at) + call.latency_ms) / 1000, call]);
  const first = Math.max(now - SPAN_S, calls.length === 500 ? Math.min(...ends.map(([end]) => end)) : 0);
  const found = [];
  for (let t = Math.ceil(first / STEP_S) * STEP_S; t < now - STEP_S; t += STEP_S) {
    const within = ends.filter(([end]) => end > t - 60 && end <= t).map(([, call]) => call);
    const first = within.map((call) => call.ttft_ms).filter((each) => each !== null).sort((a, b) => a - b);
    const quantile = (q) => (first.length ? first[Math.min(first.length - 1, Math.floor(q * first.length))] : null);
    found.push({ t, calls: within.length / 60, cost: within.reduce((sum, call) => sum + call.cost_nanousd, 0), p50: quantile(0.5), p95: quantile(0.95) });
  }
  points.unshift(...found.filter((each) => !points.length || each.t < points[0].t - 1));
}

export function nowPart(view) {
  const figures = h("dl", { class: "figures" });
  const small = h("dl", { class: "small-figures" });
  const charts = [
    chart("Calls per second", [{ name: "calls", color: "--line", fill: "--line-fill", text: rate }], { span: SPAN_S, sync: "now" }),
    chart("Cost per minute", [{ name: "cost", color: "--line", fill: "--line-fill", text: (value) => (value === null || value === undefined ? "–" : usd(value)), axis: axisUsd }], { span: SPAN_S, sync: "now" }),
    chart("Time to first token", [{ name: "p95", color: "--line-2", text: ms, axis: axisMs }, { name: "p50", color: "--line", text: ms }], { span: SPAN_S, sync: "now" }),
  ];
  const element = section("Now", { cls: "now" }, figures, h("div", { class: "charts" }, charts.map((each) => each.element)), small);
  let last = null;
  const lines = () => {
    const times = points.map((each) => each.t);
    charts[0].set([times, points.map((each) => each.calls)]);
    charts[1].set([times, points.map((each) => each.cost)]);
    charts[2].set([times, points.map((each) => each.p95), points.map((each) => each.p50)]);
  };
  const draw = (now) => {
    last = now;
    swap(figures, figuresOf(now));
    swap(small, smallOf(now));
    lines();
  };
  view.on("now", draw);
  view.on("state", (state) => element.classList.toggle("stale", state.kind === "off"));
  view.ends(() => charts.forEach((each) => each.close()));
  swap(figures, figuresOf(latest() || {}));
  lines();
  recall().then(() => view.open && lines(), () => {});
  ask("api/v1/now").then((now) => { if (view.open && !last) { remember(now); draw(now); } }, () => {});
  return element;
}

let newest = null;
export const latest = () => newest;
export const keep = (now) => { newest = now; remember(now); };

function figure(label, value, beside, tone) {
  return h("div", { class: tone }, h("dt", null, label), h("dd", null, value, beside && h("small", null, beside)));
}

function figuresOf(now) {
  const p50 = now.ttft_p50_ms ?? now.ttft_mean_ms;
  return [
    figure("Calls in flight", count(now.in_flight)),
    figure("Calls per second", rate(now.calls_per_s)),
    figure("Cost per minute", now.cost_per_minute_nanousd === undefined ? "–" : usd(now.cost_per_minute_nanousd)),
    figure("Time to first token", ms(p50), now.ttft_p95_ms !== undefined && now.ttft_p95_ms !== null ? `p95 ${ms(now.ttft_p95_ms)}` : p50 === now.ttft_mean_ms && p50 !== undefined ? "mean" : ""),
    figure("Errors per minute", now.errors_per_minute === undefined ? "–" : count(Math.round(now.errors_per_minute)), now.refused_per_minute !== undefined ? `${count(Math.round(now.refused_per_minute))} refused` : "", now.errors_per_minute > 0 ? "bad" : ""),
  ];
}

function smallOf(now) {
  const pairs = [
    ["Latency", now.latency_p50_ms !== undefined ? `p50 ${ms(now.latency_p50_ms)} · p95 ${ms(now.latency_p95_ms)}` : `mean ${ms(now.latency_mean_ms)}`],
    ["Usage estimated", percent(now.estimated_share, 1), now.estimated_share > 0.05],
    ["Without a price", percent(now.unpriced_share, 1), now.unpriced_share > 0],
    ["Waiting for the books", count(now.queue_depth)],
    ["Owed to the store", count(now.owed_settlements), now.owed_settlements > 0],
    ["Config", now.config_version || "–"],
  ];
  return pairs.map(([label, value, warn]) => h("div", { class: warn ? "warn" : null }, h("dt", null, label), h("dd", null, value)));
}
