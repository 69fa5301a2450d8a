"use strict";
// The page is complete without this script: it keeps numbers new, draws charts, and opens one VM. Nothing that comes
// from the server is ever read as HTML: names of VMs are other people's text.

const $ = (id) => document.getElementById(id);
const api = async (path) => {
  const answer = await fetch("api/v1/" + path);
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.message || answer.statusText);
  return body;
};

/** An element with attributes and children; text becomes text. */
function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

// --- numbers ---------------------------------------------------------------------------------------------------------

const UNKNOWN = "–";
const shorten = (value) => {
  for (const [size, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= size) return Number((value / size).toPrecision(3)) + letter;
  }
  return String(Number(value.toPrecision(3)));
};
function amount(value, unit) {
  if (value === null || value === undefined) return UNKNOWN;
  if (unit === "share") return Number((value * 100).toPrecision(3)) + " %";
  if (unit === "cpus") return shorten(value) + " CPU";
  if (unit === "seconds") return seconds(value);
  return shorten(value);
}
function seconds(value) {
  if (value === null) return "∞";
  for (const [size, unit] of [[1, "s"], [1e-3, "ms"], [1e-6, "µs"]]) {
    if (value >= size) return Number((value / size).toPrecision(3)) + " " + unit;
  }
  return Math.round(value * 1e9) + " ns";
}
const clock = (time) => new Date(time).toLocaleTimeString([], { hour12: false });

// --- tables ----------------------------------------------------------------------------------------------------------

function table(caption, heads, rows) {
  const head = el("tr", {}, ...heads.map((text) => el("th", { scope: "col" }, text)));
  const body = rows.map((cells) => el("tr", {}, ...cells.map((cell) => el("td", {}, cell))));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {}, el("caption", { class: "skip" }, caption), el("thead", {}, head), el("tbody", {}, ...body)));
}

const state = { metrics: [], summary: null, sort: null, vm: null, charts: [], heat: [] };

function showVms(summary) {
  const rows = [...summary.vms];
  const by = state.sort;
  if (by) rows.sort((a, b) => (b.metrics[by] ?? -1) - (a.metrics[by] ?? -1));
  $("vm-rows").replaceChildren(...rows.map((vm) => el("tr", {},
    el("td", {}, el("a", { href: "#vm=" + vm.id }, vm.name)),
    el("td", { class: "left" }, vm.silent_s === null ? vm.vmm ?? UNKNOWN : "not answering"),
    el("td", {}, String(vm.vcpus)),
    el("td", { class: "left " + vm.apicv }, vm.apicv),
    ...state.metrics.map((metric) => el("td", {}, amount(vm.metrics[metric.name], metric.unit))),
    el("td", {}, vm.findings ? String(vm.findings) : ""))));
  $("vm-total").replaceChildren(
    el("td", {}, "total"), el("td", {}), el("td", {}, String(summary.vcpus_total)), el("td", {}),
    ...state.metrics.map((metric) => el("td", {}, amount(summary.total[metric.name], metric.unit))), el("td", {}));
  const hidden = summary.vms_total - rows.length;
  $("vm-note").textContent = hidden > 0 ? `and ${hidden} more VMs with fewer exits` : "";
}

for (const button of document.querySelectorAll("#vms th button")) {
  button.addEventListener("click", () => {
    state.sort = button.dataset.metric;
    for (const head of document.querySelectorAll("#vms th")) head.removeAttribute("aria-sort");
    button.parentElement.setAttribute("aria-sort", "descending");
    if (state.summary) showVms(state.summary);
  });
}

// --- findings --------------------------------------------------------------------------------------------------------

function showRules(rules) {
  const open = new Set([...document.querySelectorAll("#rules details[open]")].map((each) => each.dataset.rule));
  const key = JSON.stringify(rules.map((rule) => [rule.rule, rule.findings, rule.cost_cpus]));
  if ($("rules").dataset.key === key) return;
  $("rules").dataset.key = key;
  if (!rules.length) return $("rules").replaceChildren(el("p", {}, "Nothing is wrong that a rule knows of."));
  $("rules").replaceChildren(...rules.map((rule) => {
    const body = el("div", { "aria-live": "polite" });
    const cost = rule.cost_cpus === null ? "" : ` · about ${amount(rule.cost_cpus, "cpus")}`;
    const details = el("details", { "data-rule": rule.rule, ontoggle: () => details.open && showRule(rule.rule, body) },
      el("summary", {}, el("span", { class: "level" }, rule.severity), ` ${rule.title} `,
        el("span", { class: "soft" }, `${rule.rule} · ${rule.findings} found${cost}`)), body);
    details.open = open.has(rule.rule);
    return el("div", { class: "rule " + rule.severity }, details);
  }));
}

async function showRule(rule, body) {
  try {
    const report = await api("doctor?rule=" + encodeURIComponent(rule));
    const total = report.by_rule[0];
    if (!total) return body.replaceChildren(el("p", {}, "It no longer fires."));
    const names = [...new Set(total.worst.flatMap((worst) => Object.keys(worst.evidence)))];
    body.replaceChildren(
      el("p", {}, total.explanation),
      ...total.remedies.map((remedy) => el("p", {}, el("b", {}, "Fix: "), remedy.do, " ",
        ...remedy.how.flatMap((way) => [el("code", {}, way.text), " "]),
        el("span", { class: "soft" }, "Trade-off: " + remedy.price))),
      ...total.causes.map((cause) => el("p", {}, `${cause.name}: ${cause.meaning} (${cause.findings})`)),
      table("Evidence of " + rule, ["VM", "vCPU", ...names], total.worst.map((worst) => [
        worst.name ?? worst.vm, worst.vcpu === null ? "" : String(worst.vcpu),
        ...names.map((name) => amount(worst.evidence[name] ?? null))])));
  } catch (error) {
    body.replaceChildren(el("p", {}, error.message));
  }
}

// --- charts ----------------------------------------------------------------------------------------------------------

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

class Chart {
  constructor(place, metric, vm) {
    this.metric = metric;
    this.vm = vm;
    this.plotPlace = el("div", { class: "plot", "aria-hidden": "true" });
    this.twin = el("div");
    this.details = el("details", { ontoggle: () => this.details.open && this.showTable() },
      el("summary", {}, "Table"), this.twin);
    this.data = [[], []];
    place.append(el("section", { class: "chart", "aria-label": metric.title },
      el("h3", { title: metric.help }, metric.title), this.plotPlace, this.details));
  }
  async load() {
    const vm = this.vm ? "&vm=" + this.vm : "";
    const found = await api("history?metric=" + encodeURIComponent(this.metric.name) + vm);
    this.data = [found.times.map((time) => Date.parse(time) / 1000), found.values];
    this.draw();
  }
  add(time, value) {
    const [times, values] = this.data;
    if (times.length && time <= times[times.length - 1]) return;
    times.push(time);
    values.push(value);
    while (times.length && times[0] < time - 3600) { times.shift(); values.shift(); }
    if (this.plot) this.plot.setData(this.data);
    if (this.details.open) this.showTable();
  }
  draw() {
    if (this.plot) this.plot.destroy();
    const axis = { stroke: color("--soft"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
    const times = { ...axis, space: 80, values: (plot, ticks) => ticks.map((tick) => clock(tick * 1000)) };
    this.plot = new uPlot({
      width: Math.max(200, this.plotPlace.clientWidth), height: 160, legend: { show: false }, cursor: { sync: { key: "kvm" } },
      scales: { y: { range: (plot, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      axes: [times, { ...axis, size: 56, values: (plot, ticks) => ticks.map((tick) => amount(tick, this.metric.unit)) }],
      series: [{}, { stroke: color("--chart"), width: 1.5, spanGaps: false, points: { show: this.data[0].length < 3 } }],
    }, this.data, this.plotPlace);
  }
  showTable() {
    const rows = this.data[0].map((time, at) => [clock(time * 1000), amount(this.data[1][at], this.metric.unit)]);
    this.twin.replaceChildren(table(this.metric.title, ["Time", this.metric.title], rows.reverse()));
  }
}

async function showCharts(place, vm) {
  for (const chart of state.charts) if (chart.plot) chart.plot.destroy();
  place.replaceChildren();
  state.charts = state.metrics.map((metric) => new Chart(place, metric, vm));
  await Promise.all(state.charts.map((chart) => chart.load().catch(() => undefined)));
}
const redraw = () => state.charts.forEach((chart) => chart.draw());
let resizing = 0;
addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(redraw, 150); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

// --- one VM ----------------------------------------------------------------------------------------------------------

async function showVm() {
  const id = state.vm;
  const [overview, apicv, list] = await Promise.all(
    [api("status?vm=" + id), api("apicv?vm=" + id), api("hist?vm=" + id)]);
  if (state.vm !== id) return;
  const [vm] = overview.vms;
  if (!vm) throw new Error("This VM has ended.");
  $("vm-name").textContent = vm.name;
  $("vm-facts").textContent = [vm.vmm, vm.managed_by, vm.pid && "pid " + vm.pid, vm.uuid].filter(Boolean).join(" · ");
  $("vcpus").replaceChildren(table("vCPUs", ["vCPU", "APICv", ...state.metrics.map((metric) => metric.title)],
    vm.vcpus.map((vcpu) => [String(vcpu.id),
      vcpu.apicv_active === null ? UNKNOWN : vcpu.apicv_active ? "active" : "not active",
      ...state.metrics.map((metric) => amount(vcpu.metrics[metric.name] ?? null, metric.unit))])));
  showApicv(apicv.host, apicv.vms[0].apicv);
  showHeat(id, list.histograms);
}

function showApicv(host, verdict) {
  const items = (texts) => texts.map((text) => el("li", {}, text));
  $("apicv").replaceChildren(el("ul", { class: "tree" },
    el("li", {}, "Host: ", host.supported.value === false ? "not supported" : { true: "on", false: "off" }[host.switched_on.value] ?? "unknown",
      el("ul", {}, ...items([host.supported.evidence, host.switched_on.evidence]))),
    el("li", {}, "VM: ", el("b", { class: verdict.state }, verdict.state),
      el("ul", {},
        ...verdict.reasons.map((reason) => el("li", {}, el("b", {}, reason.name), ": " + reason.meaning,
          el("ul", {}, ...items(["Cause: " + reason.cause, "Fix: " + reason.remedy, ...reason.evidence.map((each) => each.text)])))),
        ...verdict.limits.map((limit) => el("li", {}, limit.text + " ", limit.cost, el("ul", {}, ...items(["Fix: " + limit.remedy])))),
        ...items(verdict.notes)))));
}

// A heat map of a histogram: a column an interval, a row a bucket.
function showHeat(id, histograms) {
  const names = histograms.filter((each) => each.scope === "vcpu" || each.scope === "vm").map((each) => each.stat.name);
  if (state.heat.vm === id) return;
  state.heat = Object.assign([], { vm: id });
  $("heat").replaceChildren(...names.slice(0, 6).map((name) => {
    const canvas = el("canvas", { class: "heat", width: 120, height: 32, "aria-hidden": "true" });
    const twin = el("div");
    state.heat.push({ name, canvas, twin, columns: [] });
    return el("section", { class: "chart", "aria-label": name }, el("h3", {}, name), canvas,
      el("details", {}, el("summary", {}, "Table of the last interval"), twin));
  }));
  if (!names.length) $("heat").replaceChildren(el("p", {}, "No histogram can be read of this VM."));
}

async function addHeat() {
  const id = state.vm;
  for (const map of state.heat) {
    const found = await api(`hist?vm=${id}&interval=last&stat=${encodeURIComponent(map.name)}`).catch(() => null);
    if (!found || state.vm !== id) return;
    const counts = found.buckets.map((bucket) => bucket.count ?? 0);
    map.columns.push(counts);
    if (map.columns.length > map.canvas.width) map.columns.shift();
    drawHeat(map);
    map.twin.replaceChildren(table(map.name, ["from", "to below", "count"], found.buckets
      .filter((bucket) => bucket.count).map((b) => [seconds(b.low), seconds(b.high), String(b.count)])));
  }
}

function drawHeat({ canvas, columns }) {
  const context = canvas.getContext("2d");
  canvas.height = columns[0].length;
  const most = Math.max(1, ...columns.flat());
  context.fillStyle = color("--chart");
  columns.forEach((counts, x) => counts.forEach((count, bucket) => {
    context.globalAlpha = count ? 0.15 + 0.85 * Math.log1p(count) / Math.log1p(most) : 0;
    context.fillRect(canvas.width - columns.length + x, counts.length - 1 - bucket, 1, 1);
  }));
}

// --- what is shown ---------------------------------------------------------------------------------------------------

function say(text) {
  $("note").hidden = !text;
  $("note").textContent = text;
}

async function route() {
  const match = /^#vm=([0-9a-f]{16})$/.exec(location.hash);
  state.vm = match ? match[1] : null;
  $("host-view").hidden = Boolean(state.vm);
  $("vm-view").hidden = !state.vm;
  if (state.vm) {
    $("vm-name").focus();
    await Promise.all([showCharts($("vm-charts"), state.vm), showVm().catch((error) => say(error.message))]);
  } else {
    await showCharts($("charts"), null);
  }
}

function show(summary) {
  state.summary = summary;
  const time = Date.parse(summary.time) / 1000;
  $("counts").textContent = `${summary.vms_total} VMs, ${summary.vcpus_total} vCPUs`;
  $("time").textContent = clock(summary.time);
  showRules(summary.rules);
  showVms(summary);
  const vm = state.vm && summary.vms.find((each) => each.id === state.vm);
  for (const chart of state.charts) {
    if (!chart.vm) chart.add(time, summary.total[chart.metric.name]);
    else if (vm) chart.add(time, vm.metrics[chart.metric.name]);
    else chart.load().catch(() => undefined);
  }
  if (state.vm) {
    showVm().then(addHeat).catch((error) => say(error.message));
  }
}

function follow() {
  const events = new EventSource("api/v1/events");
  events.onopen = () => say("");
  events.onmessage = (event) => { say(""); show(JSON.parse(event.data)); };
  events.onerror = () => {
    say("The connection to kvmscope is lost. What is shown is old; trying again.");
    if (events.readyState === EventSource.CLOSED) { setTimeout(follow, 2000); }
  };
}

$("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = root.dataset.theme || (dark ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
  redraw();
});

addEventListener("hashchange", route);
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && state.vm) location.hash = "";
});
(async () => {
  state.metrics = (await api("metrics")).metrics;
  await route();
  follow();
})().catch((error) => say(error.message));
