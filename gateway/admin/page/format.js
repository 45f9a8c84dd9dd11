// How values read: money from integers, counts, durations, moments, changes. Knows nothing of the page.
import { h } from "./dom.js";

const NANO = 1e9;
const group = new Intl.NumberFormat("en-US");
const DASH = "–";

/** Nano-dollars as dollars with so many places, rounded half up. Integers all the way. */
export function usd(nano, places = placesFor(nano)) {
  const unit = 10 ** (9 - places);
  const units = Math.floor((Math.abs(nano) + unit / 2) / unit);
  if (nano > 0 && !units) return `<${usd(unit, places)}`; // something is not nothing
  const whole = Math.floor(units / 10 ** places);
  const part = String(units % 10 ** places).padStart(places, "0");
  return `${nano < 0 && units ? "−" : ""}$${group.format(whole)}${places ? "." + part : ""}`;
}

/** As many places as an amount needs to be told from nothing. */
export function placesFor(nano) {
  const amount = Math.abs(nano);
  if (!amount || amount >= NANO) return 2;
  return amount >= NANO / 100 ? 4 : amount >= 1e3 ? 6 : 9;
}

/** Dollars whose cents are read at once and whose fractions of a cent stand back; they line up in a column. */
export function money(nano, places = placesFor(nano)) {
  const text = usd(nano, places);
  const cut = places > 2 ? text.length - (places - 2) : text.length;
  return h("span", { class: "money" }, text.slice(0, cut), places > 2 && h("span", { class: "fraction" }, text.slice(cut)));
}

export const count = (value) => (value === null || value === undefined ? DASH : group.format(value));

/** 12 345 678 as 12.3 M: for where the size matters and the figure does not. */
export function short(value) {
  if (value < 10_000) return group.format(Math.round(value));
  const [size, sign] = value < 1e6 ? [1e3, "k"] : value < 1e9 ? [1e6, "M"] : [1e9, "G"];
  return (value / size).toFixed(value / size < 100 ? 1 : 0) + " " + sign;
}

export const rate = (value) => (value === null || value === undefined ? DASH : value >= 100 ? group.format(Math.round(value)) : value.toFixed(value && value < 1 ? 2 : 1));

export function percent(share, places = 0) {
  if (share === null || share === undefined) return DASH;
  const text = (share * 100).toFixed(places);
  if (share > 0 && Number(text) === 0) return `<${(10 ** -places).toFixed(places)} %`;
  return (share < 1 && Number(text) === 100 ? (100 - 10 ** -places).toFixed(places) : text) + " %"; // all but one is not all
}

/** Milliseconds. */
export function ms(value) {
  if (value === null || value === undefined) return DASH;
  if (value < 10) return value.toFixed(1) + " ms";
  return value < 1000 ? value.toFixed(0) + " ms" : value < 60_000 ? (value / 1000).toFixed(2) + " s" : span(value / 1000);
}

/** Marks of an axis that ends at `most`: all with as many places as the steps between them need. */
export function axisUsd(value, most) {
  const steps = most / 1e9 / 4;
  return usd(value, steps >= 1 ? 0 : Math.min(9, Math.max(2, Math.ceil(-Math.log10(steps)))));
}
export const axisMs = (value, most) => (most < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(most < 4000 ? 1 : 0)} s`);

/** Seconds as the two units that matter: 2 d 4 h, 35 min, 12 s. */
export function span(seconds) {
  const left = Math.max(0, Math.round(seconds));
  const [d, hh, m, s] = [Math.floor(left / 86400), Math.floor(left / 3600) % 24, Math.floor(left / 60) % 60, left % 60];
  if (d) return `${d} d` + (hh && d < 7 ? ` ${hh} h` : "");
  if (hh) return `${hh} h` + (m ? ` ${m} min` : "");
  return m ? `${m} min` : `${s} s`;
}

export const until = (moment) => (moment ? span((Date.parse(moment) - Date.now()) / 1000) : DASH);

const two = (value) => String(value).padStart(2, "0");
export const clock = (date) => `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
export const minute = (date) => `${two(date.getHours())}:${two(date.getMinutes())}`;
export const day = (date) => date.toLocaleDateString("en-GB", { day: "numeric", month: "short" });

/** A moment in the reader's own time; the title has it in UTC. Of another day with the day. */
export function at(moment, full = false) {
  const date = new Date(moment);
  const same = date.toDateString() === new Date().toDateString();
  const text = full || !same ? `${day(date)} ${clock(date)}` : clock(date);
  return h("time", { datetime: moment, title: moment }, text);
}

/** How a value stands to the one of the period before. */
export function delta(now, before) {
  if (!before) return h("span", { class: "delta" }, now ? "new" : DASH);
  const change = now / before - 1;
  const text = Math.abs(change) < 0.005 ? "±0 %" : `${change > 0 ? "+" : "−"}${Math.abs(change) >= 9.995 ? "999" : Math.round(Math.abs(change) * 100)} %`;
  return h("span", { class: change > 0.5 ? "delta steep" : "delta" }, text);
}

const READ = ["input", "cached_input", "cache_write", "cache_write_1h", "audio_in", "cached_audio_in", "image_in", "cached_image_in"];
const WRITTEN = ["output", "reasoning", "audio_out", "image_out"];
const sum = (usage, names) => names.reduce((total, name) => total + (usage?.[name] || 0), 0);
export const tokensIn = (usage) => sum(usage, READ);
export const tokensOut = (usage) => sum(usage, WRITTEN);
