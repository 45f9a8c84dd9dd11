// Budgets as bars: what is spent, held and left, when it resets and when it will be used up. Operators change them here.
import { ask, withQuery } from "./api.js";
import { REASON, form } from "./dialogs.js";
import { choice, h, searchField } from "./dom.js";
import { at, percent, until, usd } from "./format.js";
import { mayChange } from "./login.js";
import { adjust, link } from "./route.js";
import { part } from "./screen.js";

const NEAR = 0.8;
const WINDOWS = ["hour", "day", "week", "month", "total"].map((each) => [each, each]);
const MODES = [["hard", "hard: refuses"], ["strict", "strict: holds the most it can cost"], ["soft", "soft: looks at what was spent"], ["shadow", "shadow: only reports"]];

const used = (budget) => budget.used_ratio ?? (budget.limit_nanousd ? (budget.spent_nanousd + budget.held_nanousd) / budget.limit_nanousd : 0);

/** `whole`: with search, pages and what operators may do; else the worst few. */
export function budgetsPart(view, { whole = false } = {}) {
  const most = whole ? 50 : 8;
  const asked = { search: view.query.search || "", sort: view.query.sort || "used", cursor: view.query.cursor || "" };
  const change = (more) => { Object.assign(asked, { cursor: "" }, more); adjust({ cursor: "", ...more }); shown.refresh(); };
  const create = h("button", { type: "button", class: "small", onclick: () => make(() => shown.refresh()) }, "New budget");
  const controls = whole && h("div", { class: "controls" }, mayChange() && create,
    choice("Order", [["used", "Worst first"], ["name", "By name"]], asked.sort, (sort) => change({ sort })), searchField("Search budgets", asked.search, (search) => change({ search })));
  const shown = part(view, "Budgets", {
    every: 5000, controls, level: whole ? "h1" : "h2", cls: "budgets",
    look: async () => pageOf(await ask(withQuery("api/v1/budgets", { ...asked, limit: most })), asked, most),
    draw: ({ budgets, next }) => {
      if (!budgets.length) return h("p", { class: "empty" }, asked.search ? `No budget is called like “${asked.search}”.` : ["No budget limits anything. A line in the config does: ", h("code", null, "- {scope: \"team:*\", limit_usd: 10, window: day}")]);
      return [h("ul", { class: whole ? "budget-list dense" : "budget-list" }, budgets.map((each) => line(each, whole && mayChange(), () => shown.refresh()))),
        whole ? h("nav", { class: "pages", "aria-label": "Pages of budgets" }, asked.cursor && h("a", { href: link(["budgets"], { ...asked, cursor: "" }) }, "First page"), next && h("a", { href: link(["budgets"], { ...asked, cursor: next }) }, "Next page"))
          : next && h("p", { class: "more" }, h("a", { href: link(["budgets"]) }, "All of them"))];
    },
  });
  return shown.element;
}

/** A gateway that does not sort, search or page answers with everything: then it is done here. */
function pageOf({ budgets, next }, { search, sort }, most) {
  if (next !== undefined) return { budgets, next };
  const found = budgets.filter((each) => `${each.budget} ${each.scope}`.includes(search));
  found.sort((a, b) => (sort === "name" ? a.scope.localeCompare(b.scope) : used(b) - used(a)));
  return { budgets: found.slice(0, most), next: null };
}

/** One budget's account: name, figures, bar. */
export function line(budget, may = false, changed = () => {}) {
  const share = used(budget);
  const tone = share >= 1 ? "full" : share >= NEAR ? "near" : "";
  const limit = Math.max(1, budget.limit_nanousd);
  const width = (nano) => `${Math.min(100, (nano / limit) * 100)}%`;
  const early = budget.exhausts_at && (!budget.resets_at || budget.exhausts_at < budget.resets_at);
  const state = [
    budget.mode && budget.mode !== "hard" && h("span", { class: "tag" }, budget.mode),
    budget.source === "runtime" && h("span", { class: "tag changed" }, "run time")];
  return h("li", { class: tone },
    h("div", { class: "what" },
      h("span", { class: "scope", dir: "auto" }, budget.scope), " ", h("span", { class: "window" }, budget.window === "total" ? "in total" : `${budget.window === "hour" ? "an" : "a"} ${budget.window}`), state),
    h("div", { class: "figures-of" }, h("b", null, usd(budget.spent_nanousd, places(budget))), ` of ${usd(budget.limit_nanousd, places(budget))}`, h("span", { class: "share" }, percent(share))),
    h("div", { class: "meter", role: "img", "aria-label": `${percent(share)} used: ${usd(budget.spent_nanousd)} spent, ${usd(budget.held_nanousd)} held, ${usd(budget.remaining_nanousd)} left` },
      h("span", { class: "spent", style: { width: width(budget.spent_nanousd) } }), h("span", { class: "held", style: { width: width(Math.min(budget.held_nanousd, limit - Math.min(limit, budget.spent_nanousd))) } })),
    h("div", { class: "said" },
      h("span", null, `${usd(budget.remaining_nanousd, places(budget))} left`), budget.held_nanousd > 0 && h("span", null, h("i", { class: "key held" }), `${usd(budget.held_nanousd, places(budget))} held`),
      budget.resets_at && h("span", null, `resets in ${until(budget.resets_at)}`),
      early && share < 1 && h("span", { class: "warn" }, `used up in ${until(budget.exhausts_at)} at this pace`),
      budget.forgiven_nanousd > 0 && h("span", null, `${usd(budget.forgiven_nanousd, places(budget))} forgiven`),
      budget.changed_by && h("span", null, `by ${budget.changed_by}`, budget.changed_at && [", ", at(budget.changed_at)], budget.reason && `: ${budget.reason}`)),
    may && h("div", { class: "acts" }, act("Change", budget, () => alter(budget, changed)), act("Reset", budget, () => reset(budget, changed)), budget.source === "runtime" && act("Take away", budget, () => takeAway(budget, changed))));
}

const places = (budget) => (budget.limit_nanousd >= 1e9 ? 2 : budget.limit_nanousd >= 1e7 ? 4 : 6);
const act = (text, budget, onclick) => h("button", { type: "button", class: "small", "data-key": `${text} ${budget.budget} ${budget.scope}`, "aria-label": `${text} ${budget.scope} ${budget.window}`, onclick }, text);
const path = (budget, more = "") => `api/v1/budgets/${encodeURIComponent(budget.budget)}${more}`;
const plain = (values) => Object.fromEntries(Object.entries(values).filter(([, value]) => value !== ""));
const matching = (budget) => (budget.version ? { "If-Match": `"v${budget.version}"` } : {});

async function alter(budget, changed) {
  const whose = budget.budget_scope || budget.budget;
  const many = whose !== budget.scope && whose.includes("*");
  const only = [["", `each of ${whose}`], ["one", `${budget.scope} alone`]];
  if (await form(`Change ${budget.budget}`, {
    says: `${usd(budget.spent_nanousd)} of ${usd(budget.limit_nanousd)} are spent by ${budget.scope} in the running window.`,
    fields: [{ name: "limit_usd", label: "Limit in dollars", value: budget.limit_usd, required: true, type: "text", hint: "Holds from the next call on." },
      many && { name: "whom", label: "For", options: only, value: "", required: true, hint: `Alone: a budget of its own takes the place of ${whose}; what was spent counts.` }, REASON].filter(Boolean),
    button: "Change it", act: ({ whom, ...values }) => (whom ? exception(budget, values) : ask(path(budget), { method: "PUT", body: plain(values), headers: matching(budget) })),
  })) changed();
}

/** One account of a wildcard gets a budget of its own, for the very same window: so it takes the wildcard's place, and what was spent counts. */
const exception = ({ scope, window, mode, timezone, week_start: weekStart }, values) => ask(`api/v1/budgets/${encodeURIComponent(`${scope}/${window}`)}`, { method: "PUT", body: plain({ scope, window, mode, timezone, week_start: weekStart, ...values }) });

async function reset(budget, changed) {
  if (await form(`Reset ${budget.scope}`, {
    says: `The ${usd(budget.spent_nanousd)} that were spent in the running window do not count any more. Records and reports stay as they are.`,
    fields: [REASON], button: "Reset", danger: true,
    act: (values) => ask(path(budget, "/reset"), { method: "POST", body: plain({ ...values, scope: budget.scope }) }),
  })) changed();
}

async function takeAway(budget, changed) {
  if (await form(`Take ${budget.budget} away`, {
    says: "What was set at run time goes. Where the config has a budget of this name, that one holds again.",
    fields: [REASON], button: "Take away", danger: true,
    act: (values) => ask(path(budget), { method: "DELETE", body: plain(values), headers: matching(budget) }),
  })) changed();
}

async function make(changed) {
  if (await form("New budget", {
    fields: [
      { name: "scope", label: "Whose spend", required: true, hint: "global, team:search, user:*, agent:…, key:…" },
      { name: "limit_usd", label: "Limit in dollars", required: true },
      { name: "window", label: "Window", options: WINDOWS, value: "day" },
      { name: "mode", label: "Mode", options: MODES, value: "hard" }, REASON],
    button: "Set it", act: (values) => ask(`api/v1/budgets/${encodeURIComponent(`${values.scope}/${values.window}`)}`, { method: "PUT", body: plain(values) }),
  })) changed();
}
