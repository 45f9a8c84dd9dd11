// Asks the admin API. The token lives in this tab's session storage and goes into one header, never into an address.

const STORED = "tollgate-token";
let token = sessionStorage.getItem(STORED) || "";
let askForToken = () => {};

/** An answer that is no success. `problems`: what is wrong with which field; `wait`: seconds, where the gateway says so. */
export class Refused extends Error {
  constructor(status, message, problems = [], wait = 0) {
    super(message);
    Object.assign(this, { status, problems, wait });
  }
}

export const hasToken = () => token !== "";
export const onNoToken = (tell) => { askForToken = tell; };

export function keepToken(given) {
  token = given;
  if (given) sessionStorage.setItem(STORED, given);
  else sessionStorage.removeItem(STORED);
}

/** The response itself, for streams. `as`: a token to try instead of the one in use. */
export async function open(path, { method = "GET", body, signal, as, headers = {} } = {}) {
  const bearer = as ?? token;
  if (bearer) headers = { ...headers, Authorization: `Bearer ${bearer}` };
  if (body !== undefined) headers = { ...headers, "Content-Type": "application/json" };
  let response;
  try {
    response = await fetch(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store" });
  } catch (failure) {
    if (failure.name === "AbortError") throw failure;
    throw new Refused(0, failure.name === "TypeError" ? "The gateway does not answer." : failure.message);
  }
  if (response.ok) return response;
  const told = await response.json().then((found) => found.error || {}, () => ({}));
  if (response.status === 401 && as === undefined) askForToken(bearer ? "The token that this tab had is not valid any more." : "");
  throw new Refused(response.status, told.message || `The gateway answered ${response.status}.`, told.problems || [], Number(response.headers.get("Retry-After")) || 0);
}

/** What a path answers, as JSON. */
export async function ask(path, options) {
  return (await open(path, options)).json();
}

/** `path?a=1` from names and values; those that are empty are left out. */
export function withQuery(path, values) {
  const query = new URLSearchParams(Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined));
  return query.size ? `${path}?${query}` : path;
}
