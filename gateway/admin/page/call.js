// One call: how it ended and why, what it used, what that cost, where its time went, which budgets it met.
import { ask, withQuery } from "./api.js";
import { line } from "./budgets.js";
import { h, swap, table } from "./dom.js";
import { at, count, ms, usd } from "./format.js";
import { link } from "./route.js";
import { section } from "./screen.js";
import { COUNTED, ending, why } from "./words.js";

const RUNNING_MS = 1000;

export function callView(view, root, id) {
  view.every(RUNNING_MS, async () => {
    try {
      const call = await ask(`api/v1/calls/${encodeURIComponent(id)}`);
      if (!view.open) return "stop";
      if (call.state === "in_flight") {
        swap(root, section("Call", { level: "h1" }, h("p", { class: "lead" }, "This call is on its way. What it used and cost stands here when it is over."), h("p", { class: "id" }, id)));
        return "";
      }
      const budgets = await budgetsOf(call);
      if (view.open) swap(root, sheet(call, budgets));
    } catch (failure) {
      if (failure.status === undefined) throw failure;
      swap(root, section("Call", { level: "h1" }, h("p", { class: "empty" }, failure.status === 404 ? "There is no such call. Records are kept as long as retention.calls says." : failure.message)));
      return failure.status === 404 ? "stop" : "";
    }
    return "stop";
  });
}

/** The accounts that the call met, as they stand now. */
async function budgetsOf(call) {
  const names = new Set(call.budgets);
  if (!names.size) return [];
  const scopes = new Set(["global", ...["team", "user", "agent"].map((kind) => `${kind}:${call[kind]}`), `key:${call.key_name}`, `model:${call.model_requested}`]);
  const asked = await Promise.all([...scopes].slice(0, 6).map((scope) => ask(withQuery("api/v1/budgets", { search: scope, limit: 100 })).catch(() => ({ budgets: [] }))));
  const found = new Map();
  for (const each of asked.flatMap((one) => one.budgets)) if (names.has(each.budget) && (scopes.has(each.scope) || !each.budget.includes("*"))) found.set(`${each.budget} ${each.scope}`, each);
  return [...found.values()];
}

function sheet(call, budgets) {
  const [word, tone] = ending(call);
  const reason = why(call);
  const grouped = call.correlation_id !== call.call_id;
  return [
    h("section", { class: "call-head" },
      h("p", { class: "crumb" }, h("a", { href: link(["calls"]) }, "Calls"), " / ", at(call.started_at, true)),
      h("h1", null, call.model_requested || call.operation || "Call", " ", h("span", { class: `ending ${tone}` }, h("b", null, call.status || "–"), ` ${word.replaceAll("_", " ")}`)),
      reason && h("p", { class: `lead ${tone}` }, reason, refusing(call)),
      h("dl", { class: "figures" }, figure("Cost", `$${call.cost_usd}`, call.unpriced ? "by estimate: the book has no price" : ""), figure("Took", ms(call.latency_ms), call.sent_ms === null ? "all of it here" : `${ms(call.overhead_ms)} of it here`),
        figure("First token", ms(call.ttft_ms)), figure("Usage", call.usage_source || "–", call.usage_source ? COUNTED[call.usage_source] : "nothing was used"))),
    section("Where the time went", {}, waterfall(call)),
    h("div", { class: "columns" },
      section("What it cost", {}, cost(call)),
      section("Who and what", {}, facts([
        ["Team", call.team && h("a", { href: link(["calls"], { team: call.team }) }, call.team)], ["User", call.user], ["Agent", call.agent], ["Gateway key", call.key_name], ["Call type", call.call_type],
        ["Tags", Object.entries(call.tags || {}).map(([name, value]) => `${name}=${value}`).join(", ")],
        ["Upstream", [call.upstream, call.provider && call.provider !== call.upstream && ` (${call.provider})`, call.attempts > 1 && `, ${call.attempts} attempts`]],
        ["Operation", call.operation && `${call.operation}${call.stream ? ", streamed" : ""}`], ["Model that answered", call.model_served], ["Service tier", call.service_tier],
        ["Sent · received", `${count(call.request_bytes)} · ${count(call.response_bytes)} bytes`], ["Would be refused by", (call.would_refuse || []).join(", ")], ["Changed on the way", (call.touched || []).join(", ")],
        ["Correlation id", h("a", { href: link(["request", call.correlation_id]), class: "id" }, grouped ? call.correlation_id : "its own")],
        ["Call id", h("span", { class: "id" }, call.call_id)], ["Trace id", h("span", { class: "id" }, call.trace_id)], ["Config", h("span", { class: "id" }, call.config_version)],
      ]))),
    call.budgets?.length > 0 && section("Budgets it met", { cls: "budgets" }, budgets.length ? [h("p", { class: "note" }, "As they stand now."), h("ul", { class: "budget-list" }, budgets.map((each) => line(each)))] : h("p", null, call.budgets.join(", "))),
    h("details", null, h("summary", null, "The record"), h("pre", { tabindex: "0" }, JSON.stringify(call, null, 2))),
  ];
}

const figure = (label, value, beside) => h("div", null, h("dt", null, label), h("dd", null, value, beside && h("small", null, beside)));
const facts = (pairs) => h("dl", { class: "facts" }, pairs.filter(([, value]) => value && String(value).length && value !== ",").map(([name, value]) => [h("dt", null, name), h("dd", null, value)]));

/** What refused it: a limit has its own name in the record; of budgets the refusing one stands first. */
function refusing(call) {
  if (call.outcome === "refused" && call.refused_by?.limit) return ` It was ${call.refused_by.limit} (${call.refused_by.scope}, ${call.refused_by.unit.replaceAll("_", " ")}).`;
  if (!call.error_type.startsWith("budget_")) return "";
  if (call.outcome !== "refused" || !call.budgets?.length) return "";
  return [" It was ", h("a", { href: link(["budgets"], { search: call.budgets[0].split("/")[0] }) }, call.budgets[0]), "."];
}

function cost(call) {
  const { bill } = call;
  if (!call.usage_source) return h("p", { class: "empty" }, "Nothing was used, so nothing was charged.");
  const per = (row) => (row.per === 1 ? "" : row.per === 1e6 ? " / M" : ` / ${count(row.per)}`);
  const decimals = (text) => text.split(".")[1].length;
  const places = Math.max(0, ...(bill?.lines || []).map((row) => decimals(row.amount_usd)));
  const body = bill?.lines
    ? table("The bill, line by line", [
      { head: "Unit", cell: (row) => row.unit.replaceAll("_", " ") }, { head: "Count", n: true, cell: (row) => count(row.count) },
      { head: "Rate", n: true, cell: (row) => `$${row.rate_usd}${per(row)}` }, { head: "Cost", n: true, cell: (row) => `$${row.amount_usd}${"0".repeat(places - decimals(row.amount_usd))}` }], bill.lines, { class: "bill" })
    : table("What was used", [{ head: "Unit", cell: ([unit]) => unit.replaceAll("_", " ") }, { head: "Count", n: true, cell: ([, value]) => count(value) }], Object.entries(call.usage).filter(([, value]) => value), { class: "bill" });
  return [body, h("p", { class: "total" }, h("span", null, bill?.lines ? "Sum, rounded once to a nano-dollar" : "Charged"), h("b", null, `$${call.cost_usd}`)),
    h("p", { class: "note" }, [call.price_rows?.length && `Price ${call.price_rows.join(", ")}`, bill?.source && `from ${bill.source}${bill.source_date ? `, seen ${bill.source_date}` : ""}`, call.held_nanousd && `${usd(call.held_nanousd)} had been set aside`].filter(Boolean).join(" · "))];
}

/** The parts of a call's time from the marks of its record: [name, from, to, tone]. */
export function phases(call) {
  const end = call.latency_ms;
  const sent = call.sent_ms ?? end;
  const first = call.ttft_ms ?? end;
  const found = [["Request read", 0, Math.min(call.read_ms || 0, end), "here"], ["Admitted", call.read_ms || 0, sent, "here"]];
  if (call.waited_ms) found.push(["Waited for room", Math.max(call.read_ms || 0, sent - call.waited_ms), sent, "wait"]);
  if (call.sent_ms !== null && call.sent_ms !== undefined) found.push([call.ttft_ms === null ? "Upstream, no answer" : "Upstream, to first byte", sent, first, "upstream"]);
  if (call.ttft_ms !== null && call.ttft_ms !== undefined) found.push([call.stream ? "Stream" : "Rest of the answer", first, end, "stream"]);
  return found;
}

function waterfall(call) {
  const end = Math.max(call.latency_ms, 0.001);
  const rows = phases(call).map(([name, from, to, tone]) => h("li", null, h("span", { class: "phase" }, name),
    h("span", { class: "track" }, h("i", { class: tone, style: { left: `${Math.min(99.6, (from / end) * 100)}%`, width: `${Math.max(0.4, ((to - from) / end) * 100)}%` } })), h("span", { class: "n" }, ms(Math.max(0, to - from)))));
  return [h("ol", { class: "waterfall" }, rows), h("p", { class: "note" }, `The store took ${ms(call.reserve_ms)} of the admission. Settled after the answer was out: no time of the call.`)];
}
