// Gateway keys: who may ask, and for what. A key is shown once, when it is made.
import { ask, withQuery } from "./api.js";
import { REASON, form, show } from "./dialogs.js";
import { copyable, h, searchField, table } from "./dom.js";
import { at, until } from "./format.js";
import { mayChange } from "./login.js";
import { adjust, link } from "./route.js";
import { part } from "./screen.js";

const many = (text) => text.split(/[\s,]+/).filter(Boolean);
const LISTS = ["models", "upstreams", "cidr"];

export function keysPart(view) {
  const asked = { search: view.query.search || "", cursor: view.query.cursor || "" };
  const create = h("button", { type: "button", class: "small", onclick: () => make().then((done) => done && shown.refresh()) }, "New key");
  const shown = part(view, "Gateway keys", {
    level: "h1", cls: "keys",
    controls: h("div", { class: "controls" }, mayChange() && create, searchField("Search keys", asked.search, (search) => { Object.assign(asked, { search, cursor: "" }); adjust(asked); shown.refresh(); })),
    look: () => ask(withQuery("api/v1/keys", { ...asked, limit: 50 })),
    draw: ({ keys, next, mode }) => [
      mode === "passthrough" && h("p", { class: "lead warn" }, "No call needs any of these keys: auth.mode is passthrough, and apps send the provider's own key."),
      keys.length ? table("Gateway keys", columns(() => shown.refresh()), keys, { class: "key-list", rowClass: (key) => key.state }) : h("p", { class: "empty" }, asked.search ? `No key is called like “${asked.search}”.` : "There are no gateway keys."),
      h("nav", { class: "pages", "aria-label": "Pages of keys" }, asked.cursor && h("a", { href: link(["keys"], { search: asked.search }) }, "First page"), next && h("a", { href: link(["keys"], { ...asked, cursor: next }) }, "Next page")),
    ],
  });
  return shown.element;
}

function columns(changed) {
  const list = (value) => (Array.isArray(value) ? value.join(", ") : value) || h("span", { class: "none" }, "any");
  const act = (key, text, run) => h("button", { type: "button", class: "small", "data-key": `${text} ${key.id}`, "aria-label": `${text} ${key.name}`, onclick: () => run(key).then((done) => done && changed()) }, text);
  return [
    { head: "Name", cls: "name", cell: (key) => h("a", { href: link(["calls"], { key_name: key.name }) }, key.name) },
    { head: "State", cell: (key) => h("span", { class: `ending ${{ active: "", expired: "warn", revoked: "bad" }[key.state] ?? ""}` }, key.state) },
    { head: "Team", from: "s", cell: (key) => key.team || h("span", { class: "none" }, "any") },
    { head: "User", from: "l", cell: (key) => key.user || h("span", { class: "none" }, "any") },
    { head: "Models", from: "m", cls: "name", cell: (key) => list(key.models) },
    { head: "Expires", cell: (key) => (key.expires ? (key.state === "active" ? `in ${until(key.expires)}` : at(key.expires)) : h("span", { class: "none" }, "never")) },
    { head: "From", from: "l", cell: (key) => [key.source === "config" ? "config" : "run time", key.created_by && h("small", null, ` by ${key.created_by}`)] },
    { head: "Hash", from: "xl", cell: (key) => h("span", { class: "id" }, key.hash) },
    ...(mayChange() ? [{ head: h("span", { class: "unseen" }, "Actions"), cls: "acts", cell: (key) => key.state === "active" && [act(key, "Rotate", rotate), act(key, "Revoke", revoke)] }] : []),
  ];
}

/** What a form says, as the API takes it. */
function bodyOf({ limit_usd: limit, window, ...values }) {
  const body = Object.fromEntries(Object.entries(values).filter(([, value]) => value !== "").map(([name, value]) => [name, LISTS.includes(name) ? many(value) : value]));
  return limit ? { ...body, budget: { limit_usd: limit, window } } : body;
}

async function make() {
  const made = await form("New gateway key", {
    fields: [
      { name: "name", label: "Name", required: true, hint: "Stands in records and reports." }, { name: "team", label: "Team" }, { name: "user", label: "User" },
      { name: "models", label: "Models", hint: "gpt-4o*, claude-*; empty for any." }, { name: "upstreams", label: "Upstreams", hint: "Empty for any." }, { name: "cidr", label: "Addresses", hint: "10.0.0.0/8; empty for any." },
      { name: "limit_usd", label: "Budget in dollars" }, { name: "window", label: "Budget window", options: ["hour", "day", "week", "month", "total"].map((each) => [each, each]), value: "month" },
      { name: "expires", label: "Expires", hint: "90d, or 2027-01-01." }, REASON],
    button: "Make the key", act: (values) => ask("api/v1/keys", { method: "POST", body: bodyOf(values) }),
  });
  if (made) await reveal(made);
  return made;
}

async function rotate(key) {
  const made = await form(`Rotate ${key.name}`, {
    says: "A new key of the same rights is made. The old one goes on working for a while, so that apps can change over.",
    fields: [{ name: "overlap", label: "The old one works for", value: "24h", required: true, hint: "24h, 30m, 7d." }, { name: "expires", label: "The new one expires", hint: "90d, or 2027-01-01." }, REASON],
    button: "Rotate", act: (values) => ask(`api/v1/keys/${encodeURIComponent(key.id)}/rotate`, { method: "POST", body: bodyOf(values) }),
  });
  if (made) await reveal(made);
  return made;
}

const revoke = (key) => form(`Revoke ${key.name}`, {
  says: "Calls with this key are refused from now on, on every replica. It cannot be taken back.",
  fields: [REASON], button: "Revoke", danger: true, act: (values) => ask(`api/v1/keys/${encodeURIComponent(key.id)}`, { method: "DELETE", body: bodyOf(values) }),
});

const reveal = (made) => show(`The key of ${made.name}`, "It is kept safe now", h("p", null, "It is shown this once. The gateway keeps only its hash."), copyable(made.key, "Copy the key"));
