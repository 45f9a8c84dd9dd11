// Makes elements. Text is always a text node: nothing that a caller sent becomes markup.

/** An element. `on...` attributes are listeners, `style` is an object (an attribute would be an inline style). */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...present(children));
  return element;
}

const present = (children) => children.flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false);

/** Puts new content in place of the old; whoever was on a link or button in it by keyboard stays there. */
export function swap(element, ...children) {
  const at = element.contains(document.activeElement) ? keyOf(document.activeElement) : "";
  element.replaceChildren(...present(children));
  if (!at) return;
  const again = [...element.querySelectorAll("a[href], button, summary")].find((each) => keyOf(each) === at);
  if (again) again.focus({ preventScroll: true });
}

const keyOf = (element) => element.dataset.key || element.getAttribute("href") || element.textContent;

/** A table with a caption for those who do not see the heading. Columns: {head, cell(row), n: numbers, from: hidden below}. */
export function table(caption, columns, rows, attributes) {
  const cls = (column) => [column.n && "n", column.from && "from-" + column.from, column.cls].filter(Boolean).join(" ") || null;
  const head = columns.map((column) => h("th", { scope: "col", class: cls(column) }, column.head));
  const body = rows.map((row) => h("tr", { class: attributes?.rowClass?.(row) },
    columns.map((column, at) => h(at ? "td" : "th", { class: cls(column), scope: at ? null : "row" }, column.cell(row)))));
  return h("div", { class: "scroll", tabindex: "0" }, h("table", { class: attributes?.class },
    h("caption", { class: "unseen" }, caption), h("thead", null, h("tr", null, head)), h("tbody", null, body)));
}

/** A line of buttons of which one is pressed: [[value, text], ...]. */
export function choice(label, options, chosen, choose) {
  const buttons = options.map(([value, text]) => h("button", {
    type: "button", "aria-pressed": String(value === chosen), "data-key": `${label}:${value}`,
    onclick: () => {
      for (const each of buttons) each.setAttribute("aria-pressed", String(each.dataset.key === `${label}:${value}`));
      choose(value);
    },
  }, text));
  return h("div", { class: "choice", role: "group", "aria-label": label }, buttons);
}

/** A search field that tells what was typed when the hand rests. */
export function searchField(label, value, change) {
  let timer = 0;
  return h("input", {
    type: "search", "aria-label": label, placeholder: label, value, autocomplete: "off", spellcheck: "false",
    oninput: (event) => { clearTimeout(timer); const typed = event.target.value.trim(); timer = setTimeout(() => change(typed), 200); },
  });
}

/** A line that can be copied. Where the browser gives no clipboard (plain HTTP from afar) the text is selected instead. */
export function copyable(text, says = "Copy") {
  const code = h("code", { tabindex: "0" }, text);
  const button = h("button", { type: "button", class: "small", onclick: async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected: press Ctrl+C";
    }
    setTimeout(() => { button.textContent = says; }, 2500);
  } }, says);
  return h("div", { class: "copyable" }, h("pre", null, code), button);
}
