// The latest calls, as they end: filtered, paused, paged.
import { ask, withQuery } from "./api.js";
import { h, swap, table } from "./dom.js";
import { at, count, money, ms, tokensIn, tokensOut } from "./format.js";
import { here, link } from "./route.js";
import { section } from "./screen.js";
import { ending } from "./words.js";

export const FILTERS = ["team", "user", "agent", "model", "key_name", "upstream", "outcome", "status", "correlation_id", "since", "until"];
const SHOWN_MS = 250; // a storm of calls is drawn four times a second
const LOOKS = 25; // the gateway looks at 2,000 records for one answer: so far back goes a search before it says that it found none

/** `whole`: the view of its own, with filter, pages and pause; else the newest dozen. */
export function callsPart(view, { whole = false, first = null } = {}) {
  const most = whole ? 50 : 12;
  const filter = Object.fromEntries(FILTERS.filter((name) => view.query[name]).map((name) => [name, view.query[name]]));
  const body = h("div", { class: "body" }, h("p", { class: "note" }, "…"));
  const note = h("p", { class: "note bad", hidden: true });
  const pages = h("nav", { class: "pages", "aria-label": "Pages of calls" });
  const pause = pauseButton(() => { if (!paused()) load(); });
  const paused = () => pause.getAttribute("aria-pressed") === "true";
  let calls = [];
  let older = null;
  let loads = 0;
  let missed = 0;
  let due = 0;

  const draw = () => {
    due = 0;
    if (view.open) swap(body, calls.length ? list(calls) : nothing(filter, older));
  };
  const load = async () => {
    const mine = (loads += 1);
    try {
      const found = await look(filter, view.query.cursor, most, () => view.open && mine === loads);
      if (!view.open || mine !== loads) return;
      calls = found.calls;
      older = found.next;
      missed = 0;
      note.hidden = true;
      swap(pages, view.query.cursor && h("a", { href: link(["calls"], filter) }, "Newest"), older && h("a", { href: link(["calls"], { ...filter, cursor: older }) }, "Older"));
      draw();
      first?.(calls.length > 0 || Object.keys(filter).length > 0);
    } catch (failure) {
      if (failure.status === undefined) throw failure;
      note.textContent = failure.message;
      note.hidden = false;
    }
    pause.textContent = "Pause";
  };
  view.on("call", (call) => {
    if (view.query.cursor || !fits(filter)(call) || calls.some((each) => each.call_id === call.call_id)) return;
    if (paused()) { missed += 1; pause.textContent = `Go on (${count(missed)} new)`; return; }
    calls = [call, ...calls].slice(0, most);
    first?.(true);
    due ||= setTimeout(draw, SHOWN_MS);
  });
  view.on("state", (state) => { if (state.kind === "live" && !paused()) load(); }); // what happened while nobody listened
  load();
  const controls = h("div", { class: "controls" }, whole && filterField(filter), !view.query.cursor && pause);
  return section(whole ? "Calls" : "Latest calls", { controls, level: whole ? "h1" : "h2", cls: "calls" }, note, whole && chips(filter), body,
    whole ? pages : h("p", { class: "more" }, h("a", { href: link(["calls"]) }, "All of them")));
}

function pauseButton(pressed) {
  const button = h("button", { type: "button", class: "small", "aria-pressed": "false", onclick: () => {
    const on = button.getAttribute("aria-pressed") === "true";
    button.setAttribute("aria-pressed", String(!on));
    button.textContent = on ? "Pause" : "Go on";
    pressed();
  } }, "Pause");
  return button;
}

/** A page of calls. An answer to a filter may be short and still have a next one: it is asked for until there is enough. */
async function look(filter, cursor, most, wanted) {
  const calls = [];
  let next = cursor;
  for (let round = 0; round < LOOKS && calls.length < most && wanted(); round += 1) {
    const found = await ask(withQuery("api/v1/calls", { ...filter, limit: most - calls.length, cursor: next }));
    calls.push(...(filter.until ? found.calls : found.calls.filter(fits(filter))));
    next = found.next;
    if (!next) break;
  }
  return { calls, next };
}

function nothing(filter, older) {
  if (older) return h("p", { class: "empty" }, "No call among those that were looked at fits. Older looks further back; ", h("code", null, "since:2026-11-21 until:2026-11-22"), " in the filter goes there at once.");
  return h("p", { class: "empty" }, Object.keys(filter).length ? ["No call fits. ", h("a", { href: link(["calls"]) }, "Show all calls")] : "No calls yet.");
}

/** Whether a call that has just ended is one of those asked for: none is where they end at some moment. */
export function fits(filter) {
  const value = (call, name) => (name === "model" ? [call.model_requested, call.model_served] : [String(call[name] ?? "")]);
  const asked = Object.entries(filter).filter(([name]) => name !== "since" && name !== "until"); // moments are the gateway's to read
  const same = (call, name, wanted) => value(call, name).includes(wanted) || (name === "status" && wanted === `${String(call.status)[0]}xx`);
  return (call) => !filter.until && asked.every(([name, wanted]) => same(call, name, wanted));
}

/** `team:search status:429 "agent:my bot"`, or a call's id, or a correlation id. */
function filterField(filter) {
  const says = h("small", { id: "filter-says", class: "hint" });
  const input = h("input", { type: "search", name: "filter", "aria-label": "Filter calls", "aria-describedby": "filter-says", placeholder: "team:search status:429, or an id", autocomplete: "off", spellcheck: "false" });
  return h("form", { role: "search", class: "filter", onsubmit: (event) => {
    event.preventDefault();
    const { found, unknown } = understood(input.value);
    if (unknown.length) { says.textContent = `Nothing is called ${unknown.join(", ")}. There are: ${FILTERS.join(", ")}.`; input.setAttribute("aria-invalid", "true"); return; }
    const target = link(["calls"], { ...filter, ...found });
    if (target === location.hash) return;
    location.hash = target;
  } }, input, says);
}

export function understood(text) {
  const found = {};
  const unknown = [];
  for (const [, quoted, bare] of text.matchAll(/"([^"]*)"|(\S+)/g)) {
    const word = quoted ?? bare;
    const cut = word.indexOf(":");
    if (cut < 0) found.correlation_id = word;
    else if (FILTERS.includes(word.slice(0, cut))) found[word.slice(0, cut)] = word.slice(cut + 1);
    else unknown.push(word.slice(0, cut));
  }
  return { found, unknown };
}

function chips(filter) {
  const names = Object.keys(filter);
  return names.length > 0 && h("ul", { class: "chips", "aria-label": "Filters in force" }, names.map((name) => {
    const { [name]: _, ...others } = filter;
    return h("li", null, h("a", { href: link(["calls"], others), "aria-label": `Without ${name} ${filter[name]}` }, h("span", null, name), ` ${filter[name]} `, h("b", { "aria-hidden": "true" }, "×")));
  }));
}

export function list(calls, caption = "Calls, newest first") {
  return table(caption, COLUMNS, calls, { class: "call-list" });
}

const spot = (name, value) => (value ? (here().path[0] === "calls" ? h("a", { href: link(["calls"], { ...here().query, cursor: "", [name]: value }) }, value) : value) : h("span", { class: "none" }, "–"));

const COLUMNS = [
  { head: "Time", cls: "time", cell: (call) => h("a", { href: link(["call", call.call_id]), class: "open" }, at(call.started_at)) },
  { head: "Team", cls: "name", cell: (call) => [spot("team", call.team), h("small", { class: "only-s" }, call.model_requested)] },
  { head: "Agent", cls: "name", from: "l", cell: (call) => spot("agent", call.agent) },
  { head: "Model", cls: "name", from: "s", cell: (call) => call.model_requested || h("span", { class: "none" }, call.operation || "–") },
  { head: "Upstream", from: "xl", cell: (call) => call.upstream || "–" },
  { head: "Ended", cell: (call) => { const [text, tone] = ending(call); return h("span", { class: `ending ${tone}` }, h("b", null, call.status || "–"), text !== "ok" && h("span", { class: "word" }, ` ${text.replaceAll("_", " ")}`)); } },
  { head: "In", n: true, from: "m", cell: (call) => tokens(call, tokensIn(call.usage)) },
  { head: "Out", n: true, from: "m", cell: (call) => tokens(call, tokensOut(call.usage)) },
  { head: "Cost", n: true, cell: (call) => [call.cost_nanousd || call.usage_source ? money(call.cost_nanousd, 6) : h("span", { class: "none" }, "–"), call.unpriced && h("abbr", { class: "warn", title: "no price in the book: charged by estimate" }, "*")] },
  { head: "First token", n: true, from: "l", cell: (call) => ms(call.ttft_ms) },
  { head: "Took", n: true, from: "s", cell: (call) => ms(call.latency_ms) },
];

const tokens = (call, found) => (call.usage_source ? [call.usage_source === "estimated" && h("abbr", { title: "estimated", class: "warn" }, "~"), count(found)] : h("span", { class: "none" }, "–"));
