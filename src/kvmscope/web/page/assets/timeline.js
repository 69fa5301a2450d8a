// The time that is shown: now, or a moment of memory or of a recording.

import { $, clock, date, el, printable } from "./text.js";
import { api, link, state } from "./where.js";

const LEAP = 10, PLAY_MS = 1000, SETTLED_MS = 150, RENEWED_MS = 15000;
let playing = 0, settling = 0;

export async function loadTimeline() {
  state.timeline = await api("timeline");
  const hosts = state.timeline.hosts;
  const names = hosts.map((host) => el("option", { value: host.id }, printable(host.name ?? host.id) + (host.live ? " (live)" : "")));
  $("hosts").replaceChildren(...names);
  $("host-choice").hidden = hosts.length < 2;
  $("timebar").hidden = !hosts.length;
  $("go-live").hidden = !state.timeline.live;
  setTimeout(() => loadTimeline().then(showTime).catch(() => undefined), RENEWED_MS);
}

/** The host whose time it is: the one that was chosen, else the newest. */
function host() {
  const hosts = state.timeline.hosts;
  return hosts.find((each) => each.id === state.where.host) ?? hosts[0];
}
const shownMs = () => Date.parse(state.summary?.time ?? host().end);

/** What the page is of: live, recorded, or old because the connection is lost. */
export function showMode(mode, since = null) {
  document.body.dataset.mode = mode;
  $("mode").textContent = { live: "Live", recorded: "Recorded", lost: "Not live" }[mode];
  const time = state.summary?.time;
  if (!time) return;
  $("time").textContent = mode === "live" ? clock(time) : date(time);
  $("time-word").textContent = mode === "lost" ? "last numbers of" : "as of";
  if (since) $("time-word").textContent += " " + since;
}

export function showTime() {
  const shown = state.timeline?.hosts.length ? host() : null;
  if (!shown) return;
  const range = $("seek");
  range.min = Date.parse(shown.begin);
  range.max = Date.parse(shown.end);
  if (document.activeElement !== range || !settling) range.value = shownMs();
  range.setAttribute("aria-valuetext", date(shownMs()) + " UTC");
  $("hosts").value = shown.id;
  $("timeline-begin").textContent = date(shown.begin);
  $("timeline-end").textContent = date(shown.end);
  $("stretches").replaceChildren(...shown.stretches.map((stretch) => bar(shown, stretch)));
}

/** Where there are scenes, on a line from the first to the last. */
function bar(shown, stretch) {
  const begin = Date.parse(shown.begin), span = Math.max(1, Date.parse(shown.end) - begin);
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  const x = (1000 * (Date.parse(stretch.begin) - begin)) / span;
  const width = (1000 * (Date.parse(stretch.end) - Date.parse(stretch.begin))) / span;
  for (const [name, value] of [["x", x], ["y", 0], ["width", Math.max(2, width)], ["height", 6]]) rect.setAttribute(name, value);
  return rect;
}

function goTo(ms) {
  const shown = host();
  location.hash = link({ at: new Date(ms).toISOString(), host: shown.live ? null : shown.id });
}

/** The time so many intervals on or back; over times without scenes. */
export function step(intervals) {
  const shown = host(), from = shownMs();
  const begin = Date.parse(shown.begin), end = Date.parse(shown.end);
  let to = from + intervals * Math.max(1, state.summary?.interval_s ?? 1) * 1000;
  const spans = shown.stretches.map((each) => [Date.parse(each.begin), Date.parse(each.end)]);
  if (!spans.some(([first, last]) => first <= to && to <= last)) {
    const ahead = spans.find(([first]) => first > from), behind = spans.findLast(([, last]) => last < from);
    if (intervals > 0 && ahead) to = ahead[0];
    if (intervals < 0 && behind) to = behind[1];
  }
  goTo(Math.min(Math.max(to, begin), end));
  return to < end;
}

export function stop() {
  clearInterval(playing);
  playing = 0;
  $("play").textContent = "Play";
  $("play").setAttribute("aria-pressed", "false");
}
function play() {
  if (playing) return stop();
  $("play").textContent = "Pause";
  $("play").setAttribute("aria-pressed", "true");
  playing = setInterval(() => { if (!step(1)) stop(); }, PLAY_MS);
}

export function listen() {
  for (const [id, intervals] of [["back-far", -LEAP], ["back", -1], ["on", 1], ["on-far", LEAP]]) {
    $(id).addEventListener("click", () => { stop(); step(intervals); });
  }
  $("play").addEventListener("click", play);
  $("go-live").addEventListener("click", () => { stop(); location.hash = link({ at: null, host: null }); });
  $("seek").addEventListener("input", () => {
    stop();
    clearTimeout(settling);
    settling = setTimeout(() => { settling = 0; goTo(Number($("seek").value)); }, SETTLED_MS);
  });
  $("hosts").addEventListener("change", () => {
    stop();
    const chosen = state.timeline.hosts.find((each) => each.id === $("hosts").value);
    const parts = { host: chosen.live ? null : chosen.id, at: null, vm: null, vcpu: null };
    location.hash = link(parts);
  });
  $("go-to").addEventListener("submit", (event) => {
    event.preventDefault();
    stop();
    const text = $("go-time").value.trim();
    if (text) location.hash = link({ at: text, host: host().live ? null : host().id });
  });
}
