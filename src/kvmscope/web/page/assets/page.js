// The page is complete without this script: it keeps numbers new, draws charts, and opens VMs, vCPUs and statistics.

import { loadTimeline, listen, showMode, showTime, stop } from "./timeline.js";
import { $, el, printable } from "./text.js";
import { addInterval, begin, findVms, redraw, showHost, showRules, showStat, showStats, showSubject, showVms } from "./views.js";
import { api, atMoment, isLive, link, read, state } from "./where.js";

const RETRY_MS = 2000, SILENT_INTERVALS = 3, SILENT_LEAST_MS = 10000;
let newest = null, isBusy = false, heardAt = performance.now(), isConnected = false;

function say(text) {
  $("note").hidden = !text;
  $("note").textContent = text;
}

/** Which of the three pages the address is of. */
const kind = () => (state.where.stat || state.where.metric ? "stat" : state.where.vm ? "subject" : "host");
const SHOW = { host: showHost, subject: showSubject, stat: showStat };
const HEADING = { host: "main", subject: "subject-name", stat: "stat-name" };

function showPath() {
  const { vm, vcpu, stat, metric } = state.where;
  const name = state.summary?.vms.find((each) => each.id === vm)?.name;
  const steps = [["All VMs", {}], vm && [name ? printable(name) : "VM", { vm }], vcpu && [`vCPU ${vcpu}`, { vm, vcpu }],
    (stat || metric) && [stat || metric, null]].filter(Boolean);
  $("path").hidden = kind() === "host";
  $("steps").replaceChildren(...steps.map(([text, parts], at) => el("li", {}, at === steps.length - 1
    ? el("span", { "aria-current": "page" }, printable(text)) : el("a", { href: link(parts) }, text))));
}

/** One step up: from a statistic to its vCPU, to its VM, to the host. */
function up() {
  const { vm, vcpu, stat, metric } = state.where;
  if (stat || metric) location.hash = link({ vm, vcpu });
  else if (vcpu) location.hash = link({ vm });
  else if (vm) location.hash = link({});
}

function showSummary(summary) {
  state.summary = summary;
  document.title = "kvmscope: " + printable(summary.host.name ?? "");
  $("host-name").textContent = printable(summary.host.name ?? "–");
  $("counts").textContent = `${summary.vms_total} VMs, ${summary.vcpus_total} vCPUs`;
  showRules(summary.rules);
  findVms().catch((error) => say(error.message)); // an update may take a VM out of the table, or put it in
}

/** Show the place that is in the address. */
async function route() {
  const before = { ...state.where, kind: kind() };
  state.where = read();
  const now = kind();
  const isElsewhere = ["vm", "vcpu", "stat", "metric", "provider"].some((part) => before[part] !== state.where[part]);
  begin();
  for (const each of Object.keys(SHOW)) $(each + "-view").hidden = each !== now;
  if (isElsewhere) { $(HEADING[now]).focus(); scrollTo(0, 0); }
  await renew();
  if (isLive()) say("");
}

/** Ask for everything that is shown again. */
async function renew() {
  if (isBusy || (isLive() && !isConnected && !state.summary)) return; // the first event brings the first interval
  isBusy = true;
  const asked = location.hash;
  try {
    if (!isLive() || state.isPast) showSummary(isLive() ? newest : await atMoment("summary"));
    state.isPast = !isLive();
    showMode(!isLive() ? "recorded" : isConnected ? "live" : "lost");
    showTime();
    showPath();
    await SHOW[kind()]();
    if (!isLive()) say("");
  } catch (error) {
    say(error.message);
  } finally {
    isBusy = false;
  }
  if (location.hash !== asked) await renew();
}

// --- the newest interval -----------------------------------------------------------------------------------------------

function hear(summary) {
  newest = summary;
  heardAt = performance.now();
  isConnected = true;
  if (!isLive()) return;
  showSummary(summary);
  showMode("live");
  showTime();
  showPath();
  addInterval(summary);
  renew();
}

function lose(text) {
  isConnected = false;
  if (!isLive()) return;
  showMode("lost");
  say(text);
}

function follow() {
  const events = new EventSource("api/v1/events");
  let isFirst = true;
  events.onmessage = (event) => {
    const wasLost = !isConnected && !isFirst;
    isFirst = false;
    hear(JSON.parse(event.data));
    if (isLive()) say("");
    if (wasLost && isLive()) route();
  };
  events.onerror = () => {
    lose("The connection to kvmscope is lost. The numbers below are old. Trying again.");
    if (events.readyState === EventSource.CLOSED) setTimeout(follow, RETRY_MS);
  };
}

/** A server that answers but has nothing new, since the host cannot be read. */
function watchSilence() {
  const most = Math.max(SILENT_LEAST_MS, SILENT_INTERVALS * 1000 * (state.summary?.interval_s ?? 0));
  if (isConnected && performance.now() - heardAt > most) lose("There are no new numbers: kvmscope cannot read the host. The numbers below are old.");
}

// --- keys and buttons ----------------------------------------------------------------------------------------------------

for (const button of document.querySelectorAll("#vms th button")) {
  button.addEventListener("click", () => {
    state.sort = button.dataset.metric;
    for (const head of document.querySelectorAll("#vms th")) head.removeAttribute("aria-sort");
    button.parentElement.setAttribute("aria-sort", "descending");
    if (state.summary) showVms(state.summary);
  });
}
$("vm-filter").addEventListener("input", () => findVms().catch((error) => say(error.message)));
$("stat-filter").addEventListener("input", () => showStats());
$("no-zeros").addEventListener("change", () => showStats());
$("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = root.dataset.theme || (dark ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
  redraw();
});
let resizing = 0;
addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(redraw, 150); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
addEventListener("hashchange", () => { if (!state.where.at) stop(); route(); });
addEventListener("keydown", (event) => {
  if (event.key === "Escape") up();
});

(async () => {
  listen();
  [state.metrics] = await Promise.all([api("metrics").then((found) => found.metrics), loadTimeline()]);
  if (state.timeline.live) follow();
  state.where = read();
  await route();
  document.body.dataset.ready = "true";
  setInterval(watchSilence, 1000);
})().catch((error) => say(error.message));
