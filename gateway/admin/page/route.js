// The address: `#/calls?team=search`. Every view can be linked, and nothing but the view stands in it.

/** {path: ["call", ID], query: {name: value}} */
export function here() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { path: path.split("/").filter(Boolean).map(plain), query: Object.fromEntries(new URLSearchParams(query)) };
}

const plain = (text) => { try { return decodeURIComponent(text); } catch { return text; } };

export function link(path, query = {}) {
  const kept = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const text = new URLSearchParams(kept).toString();
  return "#/" + path.map(encodeURIComponent).join("/") + (text ? "?" + text : "");
}

/** Other choices within the view that is open: linked, but no step of the history. */
export function adjust(query) {
  const now = here();
  history.replaceState(null, "", link(now.path, { ...now.query, ...query }));
}
