// What people changed, and what they noted down: annotations are marks on every chart.
import { ask, withQuery } from "./api.js";
import { setMarks } from "./charts.js";
import { form } from "./dialogs.js";
import { h, table } from "./dom.js";
import { at, usd } from "./format.js";
import { mayChange } from "./login.js";
import { link } from "./route.js";
import { part } from "./screen.js";

const SHOWN_DAYS = 35;

/** Fetch the annotations that charts may show; a gateway without them has none. */
export async function loadMarks() {
  const since = new Date(Date.now() - SHOWN_DAYS * 86_400_000).toISOString();
  const found = await ask(withQuery("api/v1/annotations", { since, limit: 100 })).catch(() => null);
  if (found) setMarks(found.annotations);
}

export function annotationsPart(view) {
  const add = h("button", { type: "button", class: "small", onclick: () => annotate().then((done) => done && shown.refresh()) }, "Add an annotation");
  const shown = part(view, "Annotations", {
    controls: mayChange() && h("div", { class: "controls" }, add),
    look: () => ask(withQuery("api/v1/annotations", { limit: 50 })),
    draw: ({ annotations }) => (annotations.length ? table("Annotations, newest first", [
      { head: "At", cls: "time", cell: (each) => [at(each.at, true), each.until && [" – ", at(each.until, true)]] },
      { head: "Text", cls: "text", cell: (each) => each.text },
      { head: "Tags", from: "s", cell: (each) => (each.tags || []).map((tag) => h("span", { class: "tag" }, tag)) },
      { head: "By", from: "s", cell: (each) => each.by },
      ...(mayChange() ? [{ head: h("span", { class: "unseen" }, "Actions"), cls: "acts", cell: (each) => h("button", { type: "button", class: "small", "data-key": `remove ${each.id}`, "aria-label": `Remove ${each.text}`, onclick: () => remove(each).then((done) => done && shown.refresh()) }, "Remove") }] : []),
    ], annotations, { class: "annotations" }) : h("p", { class: "empty" }, "Nothing is noted down yet. A deployment, an incident, a new prompt: a mark on the charts says what happened when.")),
  });
  return shown.element;
}

async function annotate() {
  const done = await form("Add an annotation", {
    fields: [{ name: "text", label: "What happened", required: true, hint: "v42 of the search app is out" }, { name: "at", label: "At", hint: "2026-11-21T14:00:00Z; empty for now." }, { name: "until", label: "Until", hint: "For something that lasted." }, { name: "tags", label: "Tags", hint: "deploy, incident" }],
    button: "Add it",
    act: ({ tags, ...values }) => ask("api/v1/annotations", { method: "POST", body: { ...Object.fromEntries(Object.entries(values).filter(([, value]) => value)), ...(tags ? { tags: tags.split(/[\s,]+/).filter(Boolean) } : {}) } }),
  });
  if (done) await loadMarks();
  return done;
}

async function remove(annotation) {
  const done = await form("Remove the annotation", { says: annotation.text, fields: [], button: "Remove", danger: true, act: () => ask(`api/v1/annotations/${encodeURIComponent(annotation.id)}`, { method: "DELETE" }) });
  if (done) await loadMarks();
  return done;
}

export function changesPart(view) {
  const { cursor = "" } = view.query;
  return part(view, "Changes", {
    level: "h1",
    look: () => ask(withQuery("api/v1/changes", { limit: 50, cursor })),
    draw: ({ changes, next }) => (changes.length ? [table("Changes, newest first", COLUMNS, changes, { class: "changes" }),
      h("nav", { class: "pages", "aria-label": "Pages of changes" }, cursor && h("a", { href: link(["changes"]) }, "Newest"), next && h("a", { href: link(["changes"], { cursor: next }) }, "Older"))]
      : h("p", { class: "empty" }, "Nothing was changed at run time: what holds is the config.")),
  }).element;
}

const COLUMNS = [
  { head: "At", cls: "time", cell: (each) => at(each.at, true) },
  { head: "By", cell: (each) => each.by },
  { head: "What", cell: (each) => h("b", null, each.action) },
  { head: "Of", cls: "name", cell: named },
  { head: "From – to", from: "m", cls: "text", cell: (each) => difference(each.before, each.after) },
  { head: "Reason", from: "s", cls: "text", cell: (each) => each.reason || h("span", { class: "none" }, "–") },
];

/** What other columns say already, and what says nothing to people. */
const SAID = new Set(["by", "at", "reason", "version", "hash", "mark", "created_at", "created_by", "revoked_by", "ends_at", "budget"]);

/** A key by its name: an id says nothing to people. */
function named({ target, before, after }) {
  const { name } = after || before || {};
  return name && name !== target ? [name, " ", h("small", { class: "id" }, target)] : target;
}

/** Only what is not the same before and after, and what is neither empty before nor after. */
function difference(before, after) {
  const empty = (value) => value === null || value === undefined || value === "" || (Array.isArray(value) && !value.length);
  const text = (value) => (empty(value) ? "–" : Array.isArray(value) ? value.join(" ") : typeof value === "object" ? JSON.stringify(value) : String(value));
  const names = [...new Set([...Object.keys(before || {}), ...Object.keys(after || {})])].filter((name) => !SAID.has(name) && name !== "name" && text(before?.[name]) !== text(after?.[name]));
  const said = (name, value) => (name === "forgiven_nanousd" && value ? usd(value, 9) : text(value));
  return names.slice(0, 4).map((name, at) => [at > 0 && ", ", h("span", { class: "soft" }, `${name.replace("_nanousd", "")} `), before ? [said(name, before[name]), " → "] : "", said(name, after?.[name])]);
}
