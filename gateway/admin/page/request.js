// One correlation id: the calls that one request of a user led to, on one time line.
import { ask } from "./api.js";
import { list } from "./calls.js";
import { h, swap } from "./dom.js";
import { at, count, ms, usd } from "./format.js";
import { link } from "./route.js";
import { section } from "./screen.js";
import { ending } from "./words.js";

const MOST = 100;

export function requestView(view, root, id) {
  view.every(4000, async () => {
    try {
      const found = await ask(`api/v1/requests/${encodeURIComponent(id)}`);
      if (view.open) swap(root, sheet(found));
    } catch (failure) {
      if (failure.status === undefined) throw failure;
      swap(root, section("Request", { level: "h1" }, h("p", { class: "empty" }, failure.status === 404 ? "No call of this correlation id is over yet, or is kept any more." : failure.message)));
    }
    return view.open ? "" : "stop";
  });
}

function sheet(found) {
  const figure = (label, value, beside, tone) => h("div", { class: tone }, h("dt", null, label), h("dd", null, value, beside && h("small", null, beside)));
  const shown = found.calls.slice(-MOST);
  return [
    h("section", { class: "call-head" },
      h("p", { class: "crumb" }, h("a", { href: link(["calls"]) }, "Calls"), " / ", at(shown[0].started_at, true)),
      h("h1", null, "Request ", h("span", { class: "id" }, found.correlation_id)),
      h("dl", { class: "figures" }, figure("Calls", count(found.count), found.models.slice(0, 4).join(", ")), figure("Cost", usd(found.cost_nanousd)), figure("First to last", ms(found.duration_ms)), figure("Errors", count(found.errors), "", found.errors ? "bad" : ""))),
    section("Time line", {}, timeline(shown, found), found.count > MOST && h("p", { class: "note" }, `The newest ${MOST} of ${count(found.count)}.`)),
    section("Its calls", { cls: "calls" }, list([...shown].reverse(), "Calls of this request, newest first")),
  ];
}

function timeline(calls) {
  const start = (call) => Date.parse(call.started_at);
  const first = Math.min(...calls.map(start));
  const whole = Math.max(1, ...calls.map((call) => start(call) + call.latency_ms - first));
  return [h("ol", { class: "waterfall timeline" }, calls.map((call) => {
    const [word, tone] = ending(call);
    const left = ((start(call) - first) / whole) * 100;
    const part = (from, to, kind) => h("i", { class: kind, style: { left: `${Math.min(99.6, left + (from / whole) * 100)}%`, width: `${Math.max(0.4, ((to - from) / whole) * 100)}%` } });
    return h("li", null, h("span", { class: "phase" }, h("a", { href: link(["call", call.call_id]) }, call.model_requested || call.operation || "call"), h("small", null, [call.agent, call.call_type, word !== "ok" && word.replaceAll("_", " ")].filter(Boolean).join(" · "))),
      h("span", { class: "track" }, call.ttft_ms === null || tone ? part(0, call.latency_ms, tone || "upstream") : [part(0, call.ttft_ms, "upstream"), part(call.ttft_ms, call.latency_ms, "stream")]),
      h("span", { class: "n" }, ms(call.latency_ms)), h("span", { class: "n" }, usd(call.cost_nanousd)));
  })), h("p", { class: "note legend" }, h("span", null, h("i", { class: "key upstream" }), "to the first token"), h("span", null, h("i", { class: "key stream" }), "the rest of the answer"))];
}
