// Lines over time and heat maps, each with a table of its numbers behind it.

import { amount, bound, clock, count, el, table, twin } from "./text.js";
import { isLive } from "./where.js";

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const HOUR_S = 3600;

/** The same with an unknown value in each time without intervals, which a line must not cross. */
function withBreaks(times, values) {
  const steps = times.slice(1).map((time, at) => time - times[at]).sort((a, b) => a - b);
  const most = Math.max(60, 5 * (steps[Math.floor(steps.length / 2)] ?? 0));
  const found = [[], []];
  times.forEach((time, at) => {
    if (at && time - times[at - 1] > most) { found[0].push(times[at - 1] + 1); found[1].push(null); }
    found[0].push(time);
    found[1].push(values[at]);
  });
  return found;
}

/** One metric or statistic over time. */
export class Chart {
  constructor(place, title, help, unit) {
    this.title = title;
    this.unit = unit;
    this.data = [[], []];
    this.plotPlace = el("div", { class: "plot", "aria-hidden": "true" });
    this.now = el("span", { class: "soft" });
    this.details = twin("Table", () => this.table());
    place.append(el("section", { class: "chart", "aria-label": title },
      el("h3", { title: help }, title, " ", this.now), this.plotPlace, this.details));
  }
  set(times, values) {
    this.data = withBreaks(times.map((time) => Date.parse(time) / 1000), values);
    this.draw();
    this.details.renew();
  }
  add(time, value) {
    const [times, values] = this.data;
    if (times.length && time <= times[times.length - 1]) return;
    times.push(time);
    values.push(value ?? null);
    while (times.length && times[0] < time - HOUR_S) { times.shift(); values.shift(); }
    if (this.plot) this.plot.setData(this.data);
    else this.draw();
    this.say();
    this.details.renew();
  }
  say() {
    const values = this.data[1];
    this.now.textContent = values.length ? amount(values[values.length - 1], this.unit) : "no interval yet";
  }
  draw() {
    this.destroy();
    this.say();
    const axis = { stroke: color("--soft"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
    const times = { ...axis, space: 80, size: 28, values: (plot, ticks) => ticks.map((tick) => clock(tick * 1000)) };
    this.plot = new uPlot({
      width: Math.max(200, this.plotPlace.clientWidth), height: 160, legend: { show: false },
      cursor: { sync: { key: "kvm" } },
      scales: { y: { range: (plot, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      axes: [times, { ...axis, size: 76, values: (plot, ticks) => ticks.map((tick) => amount(tick, this.unit)) }],
      series: [{}, { stroke: color("--chart"), width: 1.5, spanGaps: false, points: { show: this.data[0].length < 3 } }],
    }, this.data, this.plotPlace);
  }
  destroy() {
    if (this.plot) this.plot.destroy();
    this.plot = null;
  }
  table() {
    const rows = this.data[0].map((time, at) => [clock(time * 1000), amount(this.data[1][at], this.unit)]);
    return table(`${this.title} over time`, ["Time, UTC", this.title], rows.reverse());
  }
}

const LEFT = 62, BELOW = 20, CELL_MOST = 22, CELL_LEAST = 10;

/** A histogram over time: a column an interval, a row a bucket, a stronger colour for more values. */
export class HeatChart {
  constructor(place) {
    this.title = el("h3");
    this.meaning = el("p", { class: "soft small" });
    this.canvas = el("canvas", { class: "heat", "aria-hidden": "true" });
    this.details = twin("Table", () => this.table());
    place.append(el("section", { class: "chart wide" }, this.title, this.meaning, this.canvas, this.details));
  }
  set(heat) {
    this.heat = heat;
    this.title.textContent = heat.stat;
    this.title.parentElement.setAttribute("aria-label", `Heat map of ${heat.stat}`);
    this.most = Math.max(0, ...heat.columns.map((column) => Math.max(0, ...(column.counts ?? []))));
    const when = isLive() ? "the last hour" : "the hour before";
    this.meaning.textContent = `${heat.meaning} Rows are buckets, columns are intervals of ${when}; `
      + (this.most ? `a stronger colour has more values, at most ${count(this.most)} in a cell.` : "no value was counted.");
    this.draw();
    this.details.renew();
  }
  draw() {
    const { heat, canvas } = this;
    const rows = heat.bounds.length - 1, scale = devicePixelRatio || 1;
    const width = Math.max(200, canvas.clientWidth);
    const cell = Math.min(CELL_MOST, Math.max(CELL_LEAST, 200 / rows));
    const height = rows * cell + BELOW;
    canvas.width = width * scale;
    canvas.height = height * scale;
    canvas.setAttribute("height", String(Math.round(height * scale)));
    canvas.style.height = height + "px";
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    this.cells(context, (width - LEFT) / Math.max(1, heat.columns.length), rows, cell);
    this.labels(context, width, rows, cell);
  }
  cells(context, wide, rows, cell) {
    this.heat.columns.forEach((column, at) => {
      const x = LEFT + at * wide;
      if (column.counts === null) {
        context.fillStyle = color("--line");
        context.fillRect(x, 0, Math.ceil(wide), rows * cell);
        return;
      }
      context.fillStyle = color("--chart");
      column.counts.forEach((values, row) => {
        if (!values) return;
        context.globalAlpha = 0.12 + 0.88 * Math.sqrt(values / this.most);
        context.fillRect(x, (rows - 1 - row) * cell, Math.ceil(wide), cell);
      });
      context.globalAlpha = 1;
    });
  }
  labels(context, width, rows, cell) {
    const { bounds, times, unit } = this.heat;
    context.fillStyle = color("--soft");
    context.font = "12px system-ui, sans-serif";
    context.textAlign = "right";
    const step = Math.ceil(16 / cell);
    for (let row = 0; row <= rows; row += step) {
      if (bounds[row] !== null) context.fillText(bound(bounds[row], unit), LEFT - 6, Math.max(10, (rows - row) * cell + 4));
    }
    if (!times.length) return;
    context.textAlign = "left";
    context.fillText(clock(times[0]), LEFT, rows * cell + 15);
    context.textAlign = "right";
    context.fillText(clock(times[times.length - 1]), width, rows * cell + 15);
  }
  table() {
    const { heat } = this;
    const ranges = heat.bounds.slice(0, -1).map((low, at) => `${bound(low, heat.unit)} to ${bound(heat.bounds[at + 1], heat.unit)}`);
    const rows = heat.columns.map((column, at) => [clock(heat.times[at]), amount(column.p50, heat.unit), amount(column.p99, heat.unit),
      ...ranges.map((_range, row) => (column.counts === null ? "–" : String(column.counts[row])))]);
    return table(`${heat.stat} by interval and bucket`, ["Until, UTC", "p50", "p99", ...ranges], rows.reverse());
  }
  destroy() {}
}
