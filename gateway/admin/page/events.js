// What happens, as it happens: server-sent events read through fetch (EventSource cannot send the token's header). A gateway
// without events, or with too many listeners, is asked every two seconds instead.
import { Refused, ask, open } from "./api.js";

const LONGEST_WAIT_MS = 30_000;
const SILENCE_MS = 45_000; // the gateway says something every 15 s
const POLL_MS = 2000;
const listeners = new Map();
let current = null;

/** Hear of `now`, `call`, `changed` and `state` ({kind: connecting|live|polling|off, ...}). Returns how to stop. */
export function hear(event, tell) {
  if (!listeners.has(event)) listeners.set(event, new Set());
  listeners.get(event).add(tell);
  return () => listeners.get(event).delete(tell);
}

function emit(event, data) {
  for (const tell of [...(listeners.get(event) || [])]) tell(data);
}

/** Begin, or begin again with another token. */
export function follow() {
  current?.abort();
  current = new AbortController();
  run(current.signal);
}

export function stop() {
  current?.abort();
  emit("state", { kind: "off", why: "signed out" });
}

async function run(signal) {
  let failures = 0;
  emit("state", { kind: "connecting" });
  while (!signal.aborted) {
    let why = "the connection ended";
    try {
      await listen(signal, () => { failures = 0; emit("state", { kind: "live" }); });
    } catch (failure) {
      if (signal.aborted) return;
      if (failure.status === 401) return emit("state", { kind: "off", why: "no token" });
      const never = failure.status === 404 || failure.status === 405;
      if (never || failure.status === 503 || failures) { // twice in a row: something on the way (a blocker, a proxy) may let all but streams through
        await poll(signal, never ? Infinity : 15).catch((broken) => { failure = broken; });
        if (signal.aborted) return;
        if (failure.status === 401) return emit("state", { kind: "off", why: "no token" });
      }
      why = failure.message;
    }
    if (signal.aborted) return;
    failures += 1;
    const wait = Math.min(LONGEST_WAIT_MS, 1000 * 2 ** (failures - 1)) * (0.75 + Math.random() / 2);
    emit("state", { kind: "off", why, wait });
    await pause(wait, signal);
  }
}

const pause = (wait, signal) => new Promise((done) => {
  const timer = setTimeout(done, wait);
  signal.addEventListener("abort", () => { clearTimeout(timer); done(); }, { once: true });
});

/** Read one stream to its end. A stream that falls silent is given up: a dead connection looks just so. */
async function listen(signal, opened) {
  const silent = new AbortController();
  let timer = 0;
  const heard = () => { clearTimeout(timer); timer = setTimeout(() => silent.abort(), SILENCE_MS); };
  try {
    heard();
    const response = await open("api/v1/events", { signal: AbortSignal.any([signal, silent.signal]), headers: { Accept: "text/event-stream" } });
    opened();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const take = parser((event, data) => emit(event, data));
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      heard();
      take(value);
    }
  } catch (failure) {
    if (silent.signal.aborted) throw new Refused(0, "nothing was heard for a while");
    throw failure instanceof Refused || failure.name === "AbortError" ? failure : new Refused(0, "the connection broke");
  } finally {
    clearTimeout(timer);
  }
}

/** Pieces of text in, events out (WHATWG HTML 9.2.6, without ids). What is no JSON is left out. */
export function parser(tell) {
  let rest = "";
  return (piece) => {
    const blocks = (rest + piece).replace(/\r\n?/g, "\n").split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      let event = "message";
      const data = [];
      for (const line of block.split("\n")) {
        if (line.startsWith("event:")) event = line.slice(6).trim();
        else if (line.startsWith("data:")) data.push(line.slice(5));
      }
      if (!data.length) continue;
      try { tell(event, JSON.parse(data.join("\n"))); } catch (failure) { if (!(failure instanceof SyntaxError)) throw failure; }
    }
  };
}

/** Ask instead of listening, so many times. */
async function poll(signal, times) {
  let newest = "";
  let hasNow = true;
  for (let round = 0; round < times && !signal.aborted; round += 1) {
    let now = null;
    if (hasNow) now = await ask("api/v1/now", { signal }).catch((failure) => { if (failure.status !== 404) throw failure; hasNow = false; return null; });
    if (!now) now = fromStatus(await ask("system/llm-status", { signal }));
    const { calls } = await ask("api/v1/calls?limit=50", { signal });
    emit("state", { kind: "polling" });
    emit("now", now);
    const known = calls.findIndex((call) => call.call_id === newest);
    const fresh = newest ? calls.slice(0, known < 0 ? calls.length : known) : [];
    for (const call of fresh.reverse()) emit("call", call);
    newest = calls[0]?.call_id || "none";
    await pause(POLL_MS, signal);
  }
}

/** The state at a glance, in the shape of `now`: means stand in for medians, and what is not known is null. */
function fromStatus(status) {
  const minute = status.last_minute || {};
  return {
    at: new Date().toISOString(), status: status.status, in_flight: status.active_requests, calls_per_s: minute.calls_per_s,
    cost_per_minute_nanousd: minute.cost_nanousd_per_minute, ttft_mean_ms: minute.ttft_ms, latency_mean_ms: minute.latency_ms,
    errors_per_minute: (minute.errors_per_s || 0) * 60, queue_depth: status.queue_depth,
    owed_settlements: status.store?.owed_settlements, config_version: status.config_version,
  };
}
