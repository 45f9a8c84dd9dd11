// The first view: now, spend, budgets, latency, targets, upstreams, and the calls as they end.
import { budgetsPart } from "./budgets.js";
import { callsPart } from "./calls.js";
import { h } from "./dom.js";
import { latencyPart, targetsPart } from "./latency.js";
import { nowPart } from "./now.js";
import { spendPart } from "./spend.js";
import { firstSteps } from "./start.js";
import { upstreamsPart } from "./upstreams.js";

export function overview(view, root) {
  let empty = null;
  const all = h("div", { class: "overview" });
  const seen = async (any) => {
    if (any || empty === true) {
      if (any && empty) root.replaceChildren(all);
      if (any) empty = false;
      return;
    }
    empty = true;
    const steps = await firstSteps();
    if (view.open && empty) root.replaceChildren(steps);
  };
  all.append(h("h1", { class: "unseen" }, "Overview"), nowPart(view),
    h("div", { class: "columns wide-left" }, spendPart(view), budgetsPart(view)), latencyPart(view), h("div", { class: "columns" }, targetsPart(view), upstreamsPart(view)), callsPart(view, { first: seen }));
  root.replaceChildren(all);
}
