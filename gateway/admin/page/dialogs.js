// Questions to the reader: a form in a dialog, with what the gateway finds wrong beside the field it means.
import { h } from "./dom.js";

/**
 * Ask. `fields`: [{name, label, value, hint, type, required, options}]; `act(values)` does it and may throw Refused. Resolves
 * to what `act` answered, or to null when the dialog was closed. Escape closes it; focus goes back to where it was.
 */
export function form(title, { says, fields, button, danger, act, closable = true }) {
  const before = document.activeElement;
  const inputs = new Map();
  const rows = fields.map((field) => row(field, inputs));
  const problem = h("p", { class: "problem", role: "alert" });
  const send = h("button", { type: "submit", class: danger ? "danger" : "main" }, button);
  const cancel = h("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
  const body = h("form", { novalidate: true }, h("h2", { id: "asked" }, title), says && h("p", null, says), h("div", { class: rows.length > 4 ? "fields many" : "fields" }, rows), problem, h("footer", null, closable && cancel, send));
  const dialog = h("dialog", { "aria-labelledby": "asked" }, h("article", null, body));
  return new Promise((done) => {
    let result = null;
    body.addEventListener("submit", async (event) => {
      event.preventDefault();
      const values = Object.fromEntries([...inputs].map(([name, { input }]) => [name, input.value.trim()]));
      clear(problem, inputs);
      const missing = fields.find((field) => field.required && !values[field.name]);
      if (missing) return blame(inputs, problem, [{ field: missing.name, message: "is needed" }]);
      send.setAttribute("aria-busy", "true");
      try {
        result = await act(values);
        dialog.close();
      } catch (failure) {
        if (failure.status === undefined) throw failure;
        if (failure.problems.length && blame(inputs, problem, failure.problems)) return;
        problem.textContent = failure.message;
        inputs.values().next().value?.input.focus();
      } finally {
        send.removeAttribute("aria-busy");
      }
    });
    dialog.addEventListener("close", () => { dialog.remove(); before?.focus?.(); done(result); }, { once: true });
    document.body.append(dialog);
    dialog.showModal();
    (inputs.values().next().value?.input || send).focus();
  });
}

function row({ name, label, value = "", hint, type = "text", required, options }, inputs) {
  const said = h("small", { id: `said-${name}`, class: "hint" }, hint || "");
  const common = { name, "aria-describedby": `said-${name}`, "aria-required": required ? "true" : null };
  const input = options
    ? h("select", common, options.map(([each, text]) => h("option", { value: each, selected: each === value }, text)))
    : h("input", { ...common, type, value, autocomplete: "off", spellcheck: "false" });
  inputs.set(name, { input, said, hint: hint || "" });
  return h("label", null, h("span", null, label, !required && h("em", null, " optional")), input, said);
}

function clear(problem, inputs) {
  problem.textContent = "";
  for (const { input, said, hint } of inputs.values()) { input.removeAttribute("aria-invalid"); said.textContent = hint; said.className = "hint"; }
}

/** Says what is wrong where it is wrong; false when none of it is about a field of the form. */
function blame(inputs, problem, problems) {
  let placed = false;
  for (const { field, message } of problems) {
    const at = inputs.get(field) || inputs.get(field.split(".").at(-1)); // budget.limit_usd stands at limit_usd
    if (!at) { problem.textContent += `${field}: ${message}. `; placed = true; continue; }
    at.input.setAttribute("aria-invalid", "true");
    at.said.textContent = message;
    at.said.className = "hint bad";
    if (!placed) at.input.focus();
    placed = true;
  }
  return placed;
}

/** Show something until it is closed: nodes, then one button. */
export function show(title, button, ...children) {
  const before = document.activeElement;
  const dialog = h("dialog", { "aria-labelledby": "shown" }, h("article", null, h("h2", { id: "shown" }, title), children,
    h("footer", null, h("button", { type: "button", class: "main", onclick: () => dialog.close() }, button))));
  return new Promise((done) => {
    dialog.addEventListener("close", () => { dialog.remove(); before?.focus?.(); done(); }, { once: true });
    document.body.append(dialog);
    dialog.showModal();
  });
}

export const REASON = { name: "reason", label: "Reason", hint: "Stands in the log of changes." };
