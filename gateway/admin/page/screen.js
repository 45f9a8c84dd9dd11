// A view while it is open: what it hears, what it asks for again and again, and that all of it ends with the view.
import { h, swap } from "./dom.js";
import { hear } from "./events.js";

let numbered = 0;

/** {query, on(event, tell), every(ms, look), ends(stop), close()}: `look` may answer "stop". */
export function screen(query) {
  const stops = [];
  let open = true;
  return {
    query,
    get open() { return open; },
    on: (event, tell) => { stops.push(hear(event, tell)); },
    ends: (stop) => { stops.push(stop); },
    every: (interval, look) => {
      let timer = 0;
      const round = async () => {
        clearTimeout(timer);
        const end = document.hidden ? "" : await look();
        if (open && end !== "stop") { clearTimeout(timer); timer = setTimeout(round, interval); }
      };
      round();
      stops.push(() => clearTimeout(timer));
      return round;
    },
    close: () => { open = false; stops.forEach((stop) => stop()); },
  };
}

/** A section with a heading. `lead` is a line under it, `controls` stand at its right. */
export function section(title, { controls, level = "h2", cls } = {}, ...children) {
  const id = `part-${(numbered += 1)}`;
  return h("section", { "aria-labelledby": id, class: cls }, h("header", null, h(level, { id }, title), controls), children);
}

/**
 * A section that shows what `look` answers, drawn by `draw(answer)` -> nodes, again every `every` ms. One that the gateway
 * does not offer (404) hides itself, or says so where it is all that the view has; one that gets no answer keeps what it has.
 */
export function part(view, title, { every = 10_000, look, draw, controls, level, cls }) {
  const body = h("div", { class: "body" }, h("p", { class: "note" }, "…"));
  const note = h("p", { class: "note bad", hidden: true });
  const element = section(title, { controls, level, cls }, note, body);
  let last = "";
  const round = view.every(every, async () => {
    try {
      const found = await look();
      if (!view.open) return "stop";
      const text = JSON.stringify(found) + Math.floor(Date.now() / 30_000); // what is counted down goes on without news
      if (text !== last) swap(body, draw(found));
      last = text;
      note.hidden = true;
    } catch (failure) {
      if (failure.name === "AbortError" || !view.open) return "stop";
      if (failure.status === 404) {
        if (level === "h1") swap(body, h("p", { class: "empty" }, "This gateway does not offer this part: it is of another version than the page expects."));
        else element.hidden = true;
        return "stop";
      }
      note.textContent = failure.message;
      note.hidden = false;
      if (!last) swap(body);
      if (failure.status === undefined) throw failure; // a bug of ours belongs into the console
    }
    return "";
  });
  return { element, refresh: () => { last = ""; return round(); } };
}
