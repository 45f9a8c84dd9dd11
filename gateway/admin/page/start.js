// The first minutes: nothing has passed yet, so the page says what to do.
import { ask } from "./api.js";
import { copyable, h } from "./dom.js";
import { section } from "./screen.js";

/** What an app has to be told, with the front's own address as the config has it. */
export async function firstSteps() {
  const { config } = await ask("api/v1/config").catch(() => ({ config: {} }));
  const { host = "127.0.0.1", port = 8080 } = config.front || {};
  const front = `http://${reachable(host)}:${port}`;
  const key = config.auth?.mode === "keys";
  return section("Nothing has passed yet", { level: "h1", cls: "start" },
    h("p", { class: "lead" }, "Tollgate is up and waits for calls. One variable sends an app through it; the app's code stays as it is."),
    h("ol", { class: "steps" },
      h("li", null, h("h2", null, "Point an app at it"), copyable(`export OPENAI_BASE_URL=${front}/v1`),
        h("p", null, "For Anthropic's SDKs: ", h("code", null, `ANTHROPIC_BASE_URL=${front}/anthropic`), ". ", key ? "Apps send a gateway key (auth.mode is keys)." : "The app's own provider key goes through.")),
      h("li", null, h("h2", null, "Or try it by hand"), copyable(`curl ${front}/v1/chat/completions -H "authorization: Bearer $OPENAI_API_KEY" -H "content-type: application/json" -H "x-tollgate-team: me" -d '{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}]}'`)),
      h("li", null, h("h2", null, "No key at hand?"), copyable("tollgate demo"), h("p", null, "runs a gateway with a pretend provider and a little traffic."))),
    h("p", { class: "note" }, "This page changes by itself with the first call."));
}

/** A front that listens everywhere is reached by the name that this page was. */
const reachable = (host) => (host === "0.0.0.0" || host === "::" ? location.hostname : host.includes(":") ? `[${host}]` : host);
