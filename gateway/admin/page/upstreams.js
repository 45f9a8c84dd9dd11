// Whether upstreams work, as the calls themselves tell.
import { ask } from "./api.js";
import { h, table } from "./dom.js";
import { at, count, ms, rate } from "./format.js";
import { part } from "./screen.js";
import { UPSTREAM } from "./words.js";

export function upstreamsPart(view) {
  return part(view, "Upstreams", {
    every: 5000,
    look: () => ask("api/v1/upstreams"),
    draw: ({ upstreams }) => (upstreams.length ? table("Upstreams and their last minute", COLUMNS, upstreams.slice(0, 100), { class: "upstreams" }) : h("p", { class: "empty" }, "The config has no upstream.")),
  }).element;
}

const errors = ({ errors: found }) => Object.values(found || {}).reduce((sum, each) => sum + each, 0);

const COLUMNS = [
  { head: "Upstream", cls: "name", cell: (each) => [h("i", { class: `dot ${each.state}` }), each.name, " ", h("small", { class: each.state === "failing" ? "bad" : null }, UPSTREAM[each.state] || each.state)] },
  { head: "Calls / s", n: true, cell: (each) => rate(each.last_minute?.calls_per_s) },
  { head: "Busy", n: true, from: "s", cell: (each) => count(each.busy) },
  { head: "First token", n: true, from: "s", cell: (each) => ms(each.last_minute?.ttft_ms) },
  { head: "Latency", n: true, cell: (each) => ms(each.last_minute?.latency_ms) },
  { head: "Errors / min", n: true, cell: (each) => (errors(each.last_minute || {}) ? h("span", { class: "bad" }, count(errors(each.last_minute))) : h("span", { class: "none" }, "0")) },
  { head: "Last error", from: "l", cls: "name brief", cell: (each) => (each.last_error ? [each.last_error.kind.replaceAll("_", " "), " ", h("small", null, at(each.last_error.at))] : h("span", { class: "none" }, "none")) },
];
