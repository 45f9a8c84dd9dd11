// What happened to a call, in words. The names are those of the gateway's errors and outcomes (docs/guide.md).

const WHY = {
  budget_exceeded: "A budget had no room left for what the call may cost.",
  budget_held: "A budget had room, but other calls that were still running held it. A second try may pass.",
  rate_limit_exceeded: "A limit of requests, tokens or calls at once was reached.",
  authentication_error: "No gateway key, or one that is unknown, expired or revoked.",
  permission_error: "The gateway key does not allow this: its models, upstreams, addresses, team or user do not match.",
  model_unpriced: "The price book has no price for the model, and the config refuses such calls.",
  malformed_body: "The gateway had to read the body and could not.",
  malformed_header: "A header for the gateway was not right.",
  malformed_request: "This was no request that the gateway could read.",
  body_too_large: "The body was larger than front.max_body_mb.",
  body_timeout: "The rest of the body did not come within front.body_timeout.",
  header_too_large: "The headers were larger than the config allows.",
  unknown_route: "No upstream is routed at this path.",
  upstream_unreachable: "The upstream could not be reached.",
  upstream_reset: "The upstream broke the connection off.",
  upstream_unreadable: "The upstream answered with something that is no HTTP.",
  upstream_timeout: "The upstream took longer than the config allows.",
  store_unavailable: "The books could not be asked, and the config refuses calls then.",
  shutting_down: "The gateway was on its way out.",
  internal_error: "The gateway itself failed.",
};

const OUTCOME = {
  client_disconnected: "The app went away before the answer was complete. What had been written was charged.",
  upstream_error: "The upstream failed.",
  cut: "The gateway ended the stream, because its budget was used up.",
  lost: "The process died while the call ran. What it is charged is what the config says of such calls.",
};

/** Why a call did not simply succeed; "" for one that did. */
export function why(call) {
  if (WHY[call.error_type]) return WHY[call.error_type];
  if (/^\d{3}$/.test(call.error_type || "")) return `The provider answered ${call.error_type}; the answer was passed on as it was.`;
  return OUTCOME[call.outcome] || (call.error_type ? `It failed: ${call.error_type}.` : "");
}

/** [text, tone] of how a call ended: one word where that is enough. */
export function ending(call) {
  if (call.outcome === "refused") return [call.error_type || "refused", "warn"];
  if (call.error_type || call.outcome === "upstream_error" || call.outcome === "lost") return [call.error_type === String(call.status) ? "error" : call.error_type || call.outcome, "bad"];
  if (call.outcome === "client_disconnected") return ["left", "warn"];
  if (call.outcome === "cut") return ["cut", "warn"];
  return ["ok", ""];
}

export const COUNTED = { provider: "told by the provider", counted: "counted by the gateway", estimated: "estimated" };
export const UPSTREAM = { up: "up", failing: "failing", unknown: "not heard of lately" };
export const DIMENSION = { team: "Team", user: "User", agent: "Agent", model: "Model", key_name: "Key", provider: "Provider", upstream: "Upstream", call_type: "Call type", operation: "Operation" };
export const inWords = (name) => DIMENSION[name] || name;
