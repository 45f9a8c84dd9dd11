"use strict";
// Asks the API every two seconds and shows the answers. Text goes in as text: nothing that a caller sent becomes markup.
const $ = (id) => document.getElementById(id);
const EVERY_MS = 2000;
let token = sessionStorage.getItem("token") || "";

async function ask(path) {
  const response = await fetch(path, token ? { headers: { Authorization: "Bearer " + token } } : {});
  if (response.status === 401) { await askToken(); throw new Error("a token is needed"); }
  if (!response.ok && response.status !== 503) throw new Error("the gateway answered " + response.status);
  return response.json();
}

function askToken() {
  return new Promise((done) => {
    const dialog = $("ask");
    if (dialog.open) return;
    dialog.addEventListener("close", () => { token = $("token").value; sessionStorage.setItem("token", token); done(); }, { once: true });
    dialog.showModal();
  });
}

const usd = (nano) => !nano ? "$0" : "$" + (nano / 1e9).toFixed(nano < 1e3 ? 9 : nano < 1e7 ? 6 : nano < 1e9 ? 4 : 2);
// an error of the provider's has its status as its kind: said once is enough
const answered = (call) => call.outcome === "completed" ? String(call.status)
  : call.status + " " + (call.error_type && call.error_type !== String(call.status) ? call.error_type : call.outcome);
const ms = (value) => value === null || value === undefined ? "–" : value < 1000 ? value.toFixed(0) + " ms" : (value / 1000).toFixed(2) + " s";
const sum = (usage, names) => names.reduce((total, name) => total + (usage[name] || 0), 0);
const READ = ["input", "cached_input", "cache_write", "cache_write_1h", "audio_in", "image_in"];
const WRITTEN = ["output", "reasoning", "audio_out", "image_out"];

function cell(row, text, name) {
  const td = row.insertCell();
  td.textContent = text;
  if (name) td.className = name;
  return td;
}

function showCalls(calls) {
  const rows = calls.map((call) => {
    const row = document.createElement("tr");
    row.tabIndex = 0;
    cell(row, new Date(call.started_at).toLocaleTimeString());
    cell(row, call.team || "–");
    cell(row, call.model_requested || call.operation || "–");
    cell(row, answered(call), call.status < 400 && call.status ? "good" : "bad");
    cell(row, String(sum(call.usage, READ)), "n");
    cell(row, String(sum(call.usage, WRITTEN)), "n");
    const cost = cell(row, usd(call.cost_nanousd) + (call.unpriced ? " *" : ""), "n");
    if (call.unpriced) cost.title = "no price in the book: charged by estimate";
    cell(row, ms(call.latency_ms), "n");
    cell(row, ms(call.ttft_ms), "n");
    cell(row, call.usage_source || "–");
    const open = () => { $("record").textContent = JSON.stringify(call, null, 2); $("detail").showModal(); };
    row.addEventListener("click", open);
    row.addEventListener("keydown", (event) => { if (event.key === "Enter") open(); });
    return row;
  });
  $("calls").replaceChildren(...rows);
}

function showBudgets(budgets) {
  $("budgets-section").hidden = !budgets.length;
  $("budgets").replaceChildren(...budgets.map((budget) => {
    const line = document.createElement("div");
    line.className = "budget";
    const name = document.createElement("span");
    name.textContent = budget.scope + " / " + budget.window;
    const bar = document.createElement("meter");
    bar.max = budget.limit_nanousd;
    bar.high = budget.limit_nanousd * 0.8;
    bar.low = budget.limit_nanousd * 0.5;
    bar.optimum = 0;
    bar.value = budget.spent_nanousd + budget.held_nanousd;
    bar.title = usd(budget.spent_nanousd) + " spent, " + usd(budget.held_nanousd) + " held";
    const text = document.createElement("small");
    text.textContent = usd(budget.spent_nanousd) + " of " + usd(budget.limit_nanousd) + (budget.held_nanousd ? ", " + usd(budget.held_nanousd) + " held" : "");
    line.append(name, bar, text);
    return line;
  }));
}

function median(values) {
  const sorted = values.filter((value) => value !== null).sort((a, b) => a - b);
  return sorted.length ? sorted[Math.floor(sorted.length / 2)] : null;
}

async function look() {
  try {
    const [status, list, budgets] = await Promise.all([ask("system/llm-status"), ask("api/v1/calls?limit=100"), ask("api/v1/budgets")]);
    $("state").textContent = status.status + " · config " + status.config_version + " · version " + status.version;
    $("state").className = "";
    $("active").textContent = status.active_requests;
    const minuteAgo = Date.now() - 60000;
    const recent = list.calls.filter((call) => Date.parse(call.started_at) > minuteAgo).length;
    $("rate").textContent = recent === 100 ? "100+" : recent;
    $("spent").textContent = usd(list.calls.reduce((total, call) => total + call.cost_nanousd, 0));
    $("ttft").textContent = ms(median(list.calls.map((call) => call.ttft_ms)));
    $("empty").hidden = list.calls.length > 0;
    $("calls-section").hidden = !list.calls.length;
    if (!$("detail").open) showCalls(list.calls);
    showBudgets(budgets.budgets);
  } catch (error) {
    $("state").textContent = "no answer: " + error.message;
    $("state").className = "bad";
  } finally {
    setTimeout(look, EVERY_MS);
  }
}
look();
