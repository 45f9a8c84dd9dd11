// Lines and bars over time, drawn by uPlot in the page's own colours. Annotations are marks on every chart.
import { h } from "./dom.js";
import { clock, day, minute } from "./format.js";

const drawn = new Set();
let marks = [];
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const FONT = '11px Inter, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif';

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach((each) => each.redraw()));

/** Show these annotations ({at, until, text}) on every chart. */
export function setMarks(annotations) {
  marks = annotations.map((each) => ({ from: Date.parse(each.at) / 1000, until: each.until ? Date.parse(each.until) / 1000 : null, text: each.text }));
  drawn.forEach((each) => each.redraw());
}

/**
 * A chart: {element, set(data), close()}. `data` is [seconds, values, ...]. `series`: [{name, color, text(value), bars, fill}].
 * `span`: how many seconds it always shows. What is under the pointer, or the newest, stands above it in words.
 */
export function chart(title, series, { height = 120, span = 0, sync = "", days = false } = {}) {
  const values = series.map(() => h("b"));
  const when = h("span", { class: "when" });
  const legend = h("span", { class: "legend" }, when, series.map((each, at) => h("span", null,
    series.length > 1 && h("i", { class: "key " + each.color.slice(2) }), series.length > 1 && each.name + " ", values[at])));
  const canvas = h("div", { class: "canvas", role: "img", "aria-label": title });
  const element = h("figure", { class: "chart" }, h("figcaption", null, h("span", { class: "label" }, title), legend), canvas);
  let plot = null;
  let data = [[], ...series.map(() => [])];

  const read = () => {
    const chosen = plot?.cursor.idx ?? null;
    const index = chosen ?? data[0].length - 1;
    series.forEach((each, at) => { values[at].textContent = index < 0 ? "–" : each.text(data[at + 1][index]); });
    const moment = new Date(data[0][index] * 1000);
    when.textContent = chosen === null || index < 0 ? "" : days ? day(moment) : span ? clock(moment) : `${day(moment)} ${minute(moment)}`;
    if (chosen === null) canvas.setAttribute("aria-label", `${title}: ${series.map((each, at) => `${each.name} ${values[at].textContent}`).join(", ")}`);
  };
  const make = () => {
    plot = new uPlot(options(series, { width: canvas.clientWidth, height, span, sync, days, read }), data, canvas);
    drawn.add(plot);
  };
  const fit = new ResizeObserver(() => {
    if (!canvas.clientWidth) return;
    if (plot) plot.setSize({ width: canvas.clientWidth, height });
    else make();
  });
  fit.observe(canvas);
  return {
    element,
    set: (fresh) => { data = fresh; plot?.setData(fresh); read(); },
    close: () => { fit.disconnect(); drawn.delete(plot); plot?.destroy(); },
  };
}

function options(series, { width, height, span, sync, days, read }) {
  const axis = { stroke: () => color("--soft"), font: FONT, ticks: { show: false } };
  const now = () => Date.now() / 1000;
  const half = days ? 43200 : 1800;
  return {
    width, height, legend: { show: false }, padding: [16, 8, 0, 0],
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 5, fill: (u, at) => color(series[at - 1].color) }, sync: sync ? { key: sync } : undefined },
    scales: {
      x: { range: span ? () => [now() - span, now()] : (u, low, high) => (series[0].bars ? [low - half, high + half] : [low, high]) },
      y: { range: (u, low, high) => [0, high > 0 ? high * 1.08 : 1] },
    },
    axes: [
      { ...axis, size: 20, gap: 3, grid: { show: false }, space: 64, incrs: days ? [1, 2, 7, 14].map((each) => each * 86400) : undefined, values: (u, splits, at, space, step) => splits.map((each) => {
        const moment = new Date(each * 1000);
        return step >= 86400 || days ? day(moment) : minute(moment);
      }) },
      { ...axis, size: 52, gap: 6, space: 26, grid: { stroke: () => color("--rule"), width: 1 }, values: (u, splits) => splits.map((each) => (each ? (series[0].axis || series[0].text)(each, splits[splits.length - 1]) : "0")) },
    ],
    series: [{}, ...series.map((each) => ({
      stroke: () => color(each.color), width: each.bars ? 0 : 1.5, points: { show: false },
      fill: each.bars || each.fill ? () => color(each.fill || each.color) : undefined,
      paths: each.bars ? uPlot.paths.bars({ size: [0.7, 28], align: 0 }) : undefined,
    }))],
    hooks: { draw: [drawMarks], setCursor: [read] },
  };
}

/** Dashed lines, each with its text where there is room for it. */
function drawMarks(plot) {
  const { ctx, bbox } = plot;
  const { min, max } = plot.scales.x;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = color("--mark");
  ctx.lineWidth = devicePixelRatio;
  ctx.textAlign = "left";
  ctx.textBaseline = "alphabetic";
  let taken = -Infinity; // to the right of the last text
  for (const { from, until, text } of [...marks].sort((a, b) => a.from - b.from)) {
    if ((until ?? from) < min || from > max) continue;
    const left = plot.valToPos(Math.max(from, min), "x", true);
    if (until) {
      ctx.globalAlpha = 0.12;
      ctx.fillRect(left, bbox.top, plot.valToPos(Math.min(until, max), "x", true) - left, bbox.height);
      ctx.globalAlpha = 1;
    }
    ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(left, bbox.top);
    ctx.lineTo(left, bbox.top + bbox.height);
    ctx.stroke();
    ctx.font = `${10 * devicePixelRatio}px ${FONT.slice(5)}`;
    const says = text.slice(0, 28);
    const width = ctx.measureText(says).width;
    const start = left + width + 8 * devicePixelRatio > bbox.left + bbox.width ? left - width - 4 * devicePixelRatio : left + 4 * devicePixelRatio;
    if (start < taken || start < bbox.left) continue;
    taken = start + width + 8 * devicePixelRatio;
    ctx.fillText(says, start, bbox.top - 3 * devicePixelRatio);
  }
  ctx.restore();
}
