// What was spent: a period beside the one before, its course, and who spent it.
import { ask, withQuery } from "./api.js";
import { chart } from "./charts.js";
import { choice, h, searchField, swap, table } from "./dom.js";
import { at, axisUsd, count, day, delta, minute, money, percent, placesFor, short, usd } from "./format.js";
import { adjust, link } from "./route.js";
import { part } from "./screen.js";
import { inWords } from "./words.js";

const PERIODS = [["hour", "Hour"], ["day", "Day"], ["week", "Week"], ["month", "Month"]];
const BEFORE = { hour: "the hour before", day: "the day before", week: "the week before", month: "the month before" };
const FILTERED = new Set(["team", "user", "agent", "model", "key_name", "upstream"]); // what the list of calls can be narrowed to

/** `whole`: the view of its own, with search and more rows; else the part of the overview. */
export function spendPart(view, { whole = false } = {}) {
  const asked = { by: view.query.by || "team", period: view.query.period || "day", search: view.query.search || "" };
  const change = (more) => { Object.assign(asked, more); adjust(more); shown.refresh(); };
  const dimensions = h("span");
  const controls = h("div", { class: "controls" }, dimensions, choice("Period", PERIODS, asked.period, (period) => change({ period })),
    whole && searchField("Search", asked.search, (search) => change({ search })));
  const course = courseChart();
  view.ends(() => course.close());
  let offered = "";
  const shown = part(view, "Spend", {
    every: 15_000, controls, level: whole ? "h1" : "h2", cls: "spend",
    look: () => ask(withQuery("api/v1/overview", { ...asked, limit: whole ? 100 : 8 })),
    draw: (found) => {
      if (String(found.dimensions) !== offered) swap(dimensions, choice("By", found.dimensions.slice(0, whole ? 12 : 4).map((each) => [each, inWords(each)]), asked.by, (by) => change({ by })));
      offered = String(found.dimensions);
      course.set(found);
      return [totals(found), course.element, ranking(found, asked), h("p", { class: "note" }, "Added up at ", at(found.as_of), "; the latest calls may be missing."), !whole && h("p", { class: "more" }, h("a", { href: link(["spend"], asked) }, "All of it"))];
    },
  });
  return shown.element;
}

function courseChart() {
  let kind = "";
  let made = null;
  const element = h("div");
  return {
    element,
    set: (found) => {
      const days = found.period === "week" || found.period === "month";
      if (kind !== String(days)) {
        made?.close();
        made = chart(days ? "Cost by day" : "Cost by hour", [{ name: "cost", color: "--spent", bars: true, text: (value) => (value === undefined || value === null ? "–" : usd(value)), axis: axisUsd }], { height: 140, days });
        element.replaceChildren(made.element);
        kind = String(days);
      }
      made.set([found.series.map((each) => Date.parse(each.at) / 1000), found.series.map((each) => each.cost_nanousd)]);
    },
    close: () => made?.close(),
  };
}

function totals({ totals: now, previous, period, since, until }) {
  const figure = (label, value, beside) => h("div", null, h("dt", null, label), h("dd", null, value, " ", h("small", null, beside)));
  return h("dl", { class: "figures" },
    figure("Spent", usd(now.cost_nanousd), previous.cost_nanousd ? [delta(now.cost_nanousd, previous.cost_nanousd), ` to ${BEFORE[period]}`] : `nothing ${BEFORE[period]}`),
    figure("Calls", short(now.calls), previous.calls ? delta(now.calls, previous.calls) : ""),
    figure("Tokens in · out", `${short(now.input)} · ${short(now.output)}`, now.cached_input && now.input ? `${percent(Math.min(1, now.cached_input / now.input))} cached` : ""),
    figure("Failed · refused", `${short(now.failed)} · ${short(now.refused)}`, ""),
    h("div", { class: "span" }, h("dt", null, "From – to"), h("dd", null, h("small", null, spanOf(since), " – ", spanOf(until)))));
}

const spanOf = (moment) => { const date = new Date(moment); return `${day(date)} ${minute(date)}`; };

function ranking({ rows, others, totals: all, by }, { search }) {
  if (!rows.length) return h("p", { class: "empty" }, search ? `Nothing of this period is called like “${search}”.` : "Nothing was spent in this period.");
  const most = Math.max(1, ...rows.map((row) => row.cost_nanousd));
  const places = Math.min(6, placesFor(Math.max(1, ...rows.map((row) => row.cost_nanousd)) / 20));
  const named = (row) => (row.value === "" ? h("span", { class: "none" }, "not said") : FILTERED.has(by) ? h("a", { href: link(["calls"], { [by]: row.value }) }, row.value) : row.value);
  const columns = [
    { head: inWords(by), cls: "name", cell: (row) => (row.more ? h("span", { class: "none" }, `${count(row.values)} others`) : named(row)) },
    { head: "", cls: "bar-cell", from: "s", cell: (row) => !row.more && h("span", { class: "bar", style: { width: `${(row.cost_nanousd / most) * 100}%` } }) },
    { head: "Cost", n: true, cell: (row) => money(row.cost_nanousd, places) },
    { head: "Share", n: true, from: "m", cell: (row) => percent(all.cost_nanousd ? row.cost_nanousd / all.cost_nanousd : null) },
    { head: "Before", n: true, cell: (row) => (row.more ? "" : delta(row.cost_nanousd, row.previous_cost_nanousd)) },
    { head: "Calls", n: true, from: "s", cell: (row) => count(row.calls) },
    { head: "Tokens in", n: true, from: "l", cell: (row) => short(row.input) },
    { head: "Tokens out", n: true, from: "l", cell: (row) => short(row.output) },
    { head: "Failed", n: true, from: "l", cell: (row) => zero(row.failed) },
    { head: "Refused", n: true, from: "l", cell: (row) => zero(row.refused) },
  ];
  return table(`Spend by ${inWords(by)}, dearest first`, columns, others ? [...rows, { ...others, more: true }] : rows, { class: "ranking", rowClass: (row) => (row.more ? "others" : null) });
}

const zero = (value) => (value ? count(value) : h("span", { class: "none" }, "0"));
