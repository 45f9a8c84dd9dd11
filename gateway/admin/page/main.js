// Starts the page: who looks, what the gateway offers, which view the address means, and whether what is shown is live.
import { ask, onNoToken } from "./api.js";
import { budgetsPart } from "./budgets.js";
import { callView } from "./call.js";
import { callsPart } from "./calls.js";
import { annotationsPart, changesPart, loadMarks } from "./changes.js";
import { h } from "./dom.js";
import { follow, hear, stop } from "./events.js";
import { span } from "./format.js";
import { keysPart } from "./keys.js";
import { latencyPart, targetsPart } from "./latency.js";
import { introduce, isSignedIn, signIn, signOut, who } from "./login.js";
import { keep } from "./now.js";
import { overview } from "./overview.js";
import { requestView } from "./request.js";
import { here } from "./route.js";
import { screen, section } from "./screen.js";
import { spendPart } from "./spend.js";
import { upstreamsPart } from "./upstreams.js";

const $ = (id) => document.getElementById(id);
const of = (...parts) => (view, root) => root.replaceChildren(...parts.map((make) => make(view)));
const VIEWS = {
  "": ["Overview", overview],
  spend: ["Spend", of((view) => spendPart(view, { whole: true }))],
  budgets: ["Budgets", of((view) => budgetsPart(view, { whole: true }))],
  latency: ["Latency", of((view) => latencyPart(view, { whole: true }), targetsPart, upstreamsPart)],
  calls: ["Calls", of((view) => callsPart(view, { whole: true }))],
  call: ["Call", (view, root, id) => callView(view, root, id)],
  request: ["Request", (view, root, id) => requestView(view, root, id)],
  keys: ["Keys", of(keysPart)],
  changes: ["Changes", of(changesPart, annotationsPart)],
};
const PROBED = { spend: "api/v1/overview?limit=1", keys: "api/v1/keys?limit=1", changes: "api/v1/changes?limit=1" };
let open = null;
let version = "";

function show() {
  const { path: [name = "", id = ""], query } = here();
  const [title, draw] = (Object.hasOwn(VIEWS, name) && VIEWS[name]) || ["Nothing here", (view, root) => root.replaceChildren(section("Nothing here", { level: "h1" }, h("p", { class: "empty" }, "There is no such view. ", h("a", { href: "#/" }, "To the overview"))))];
  open?.close();
  open = screen(query);
  document.title = name ? `${title} · Tollgate` : "Tollgate";
  for (const each of document.querySelectorAll("#nav a")) {
    if (each.getAttribute("href") === `#/${name === "call" || name === "request" ? "calls" : name}`) each.setAttribute("aria-current", "page");
    else each.removeAttribute("aria-current");
  }
  const moved = document.activeElement?.closest("main, #nav") || document.activeElement === document.body;
  draw(open, $("main"), id);
  scrollTo(0, 0);
  if (moved && shown) $("main").focus({ preventScroll: true }); // a reader hears the new view, and Tab goes on in it
  shown = true;
}
let shown = false;

function sayState(state) {
  const says = { connecting: "connecting", live: "live", polling: "live, every 2 s" }[state.kind]
    || `not live: ${state.why}${state.wait ? `, next try in ${span(state.wait / 1000)}` : ""}`;
  $("live").className = state.kind;
  if ($("live").textContent !== says) $("live").textContent = says;
}

function sayStatus(now) {
  const bad = now.status && now.status !== "ok" ? now.status : "";
  $("status").textContent = bad ? `the gateway is ${bad === "failed" ? "not fit: see /health/ready" : bad}` : "";
  if (now.config_version && now.config_version !== version) version = now.config_version;
  $("version").textContent = [who().version && `Tollgate ${who().version}`, version && `config ${version}`, now.calls_left_out && `${now.calls_left_out} calls not shown live`].filter(Boolean).join(" · ");
}

function sayWho() {
  const { name, role } = who();
  $("who").replaceChildren(...(name ? [h("span", null, name), h("small", null, ` ${role}`)] : []),
    ...(isSignedIn() ? [h("button", { type: "button", class: "small", onclick: () => { signOut(); stop(); sayWho(); enter(""); } }, "Sign out")] : []));
}

/** Until somebody is known: then the views. */
async function enter(because) {
  let known = false;
  if (because === null) known = await introduce().then(() => true, (failure) => { if (failure.status !== 401) return retry(failure); return false; });
  if (known === undefined) return;
  while (!known) {
    open?.close();
    $("main").replaceChildren(); // what was shown is for whoever had the token
    known = await signIn(because || "");
    if (!known) {
      $("main").replaceChildren(section("Signed out", { level: "h1" }, h("p", { class: "lead" }, "Numbers are shown to those who have a token."), h("button", { type: "button", class: "main", onclick: () => enter("") }, "Sign in")));
      return;
    }
  }
  sayWho();
  follow();
  loadMarks();
  show();
  for (const [name, path] of Object.entries(PROBED)) ask(path).catch((failure) => { if (failure.status === 404) $(`nav-${name}`).hidden = true; });
}

function retry(failure) {
  sayState({ kind: "off", why: failure.message });
  $("main").replaceChildren(section("No answer", { level: "h1" }, h("p", { class: "empty" }, failure.message)));
  setTimeout(() => enter(null), 3000);
}

hear("state", sayState);
hear("now", (now) => { keep(now); sayStatus(now); });
hear("changed", loadMarks);
onNoToken((why) => { if (shown) { shown = false; open?.close(); stop(); enter(why); } });
addEventListener("hashchange", show);
$("skip").addEventListener("click", (event) => { event.preventDefault(); $("main").focus(); });
$("zone").textContent = `Times are those of ${Intl.DateTimeFormat().resolvedOptions().timeZone || "this browser"}; the books are kept in UTC.`;
enter(null);
