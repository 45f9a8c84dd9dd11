// Who looks: the token, and what it may do.
import { Refused, ask, hasToken, keepToken } from "./api.js";
import { form } from "./dialogs.js";

const me = { name: "", role: "viewer", version: "" };
let asking = null;

export const who = () => me;
export const mayChange = () => me.role === "operator";

/** Find out who the token belongs to. A gateway that does not say (404) lets everybody look and nobody change. */
export async function introduce(token) {
  try {
    Object.assign(me, await ask("api/v1/me", { as: token }));
  } catch (failure) {
    if (failure.status !== 404) throw failure;
    const status = await ask("system/llm-status", { as: token });
    Object.assign(me, { name: "", role: "viewer", version: status.version });
  }
}

/** Ask for a token until one is right, or until the reader gives up (false). */
export function signIn(why = "") {
  asking ??= form("Sign in", {
    says: why || "This gateway wants a token: the one of the config's admin.token, or one of admin.tokens.",
    fields: [{ name: "token", label: "Token", type: "password", required: true, hint: "Kept in this tab until it is closed." }],
    button: "Sign in",
    act: async ({ token }) => {
      try { await introduce(token); } catch (failure) { throw inWords(failure); }
      keepToken(token);
      return true;
    },
  }).then((done) => done === true).finally(() => { asking = null; });
  return asking;
}

function inWords(failure) {
  const says = {
    401: "The gateway does not know this token. It may have expired, or a character is missing.",
    403: "This token is known, but it may not look at this page.",
    421: "This listener answers to localhost only. Open the page by that name, or through a tunnel.",
    429: `Too many wrong tokens came from here.${failure.wait ? ` Try again in ${failure.wait} s.` : " Try again in a minute."}`,
  }[failure.status];
  return new Refused(failure.status, says || failure.message);
}

export function signOut() {
  keepToken("");
  Object.assign(me, { name: "", role: "viewer" });
}

export const isSignedIn = hasToken;
