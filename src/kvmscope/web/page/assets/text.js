// Numbers, times and elements. Nothing that comes from the server is ever read as HTML: names are other people's text.

export const UNKNOWN = "–";
export const $ = (id) => document.getElementById(id);

/** An element with attributes and children; text becomes text. */
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

// As host/text.py: what a reader cannot see, or what reorders a line, is written out.
const HIDDEN = /[\p{C}\p{Zl}\p{Zp}\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\ufffc]/gu;
export function printable(text) {
  const shown = String(text).replace(HIDDEN, (sign) => {
    const code = sign.codePointAt(0);
    if (code < 256) return "\\x" + code.toString(16).padStart(2, "0");
    return code < 65536 ? "\\u" + code.toString(16).padStart(4, "0") : "\\U" + code.toString(16).padStart(8, "0");
  });
  return shown.length > 64 ? shown.slice(0, 63) + "…" : shown;
}

// As units.py: three digits, in its words.
const digits = (value) => String(Number(value.toPrecision(3)));
const LARGE = [[1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
const BINARY = [[2 ** 60, "Ei"], [2 ** 50, "Pi"], [2 ** 40, "Ti"], [2 ** 30, "Gi"], [2 ** 20, "Mi"], [2 ** 10, "Ki"]];

export function count(value) {
  for (const [size, letter] of LARGE) {
    if (Math.abs(value) >= size * 0.9995) return digits(value / size) + letter;
  }
  if (Number.isInteger(value)) return String(value);
  return Math.abs(value) >= 0.01 ? digits(value) : String(Number(value.toPrecision(1)));
}
export function seconds(value) {
  if (value === null) return "∞";
  if (value === 0) return "0 s";
  for (const [floor, factor, unit] of [[1e-9, 1e9, "ns"], [1e-6, 1e6, "µs"], [1e-3, 1e3, "ms"]]) {
    if (Math.abs(value) < floor * 999.5) return digits(value * factor) + " " + unit;
  }
  return digits(value) + " s";
}
function bytes(value) {
  if (value === null) return "∞";
  for (const [size, prefix] of BINARY) if (Math.abs(value) >= size) return digits(value / size) + " " + prefix + "B";
  return digits(value) + " B";
}
function ofOne(value, unit) {
  if (Math.abs(value) >= 0.9995) return count(value) + unit;
  return (Math.abs(value) >= 0.0005 || value === 0 ? String(Number(value.toFixed(3))) : "<0.001") + unit;
}
const WRITERS = {
  share: (value) => digits(value * 100) + " %",
  cpus: (value) => ofOne(value, " CPU"),
  vcpus: (value) => ofOne(value, " vCPU"),
  seconds,
  bytes,
  boolean: (value) => ({ 0: "no", 1: "yes" })[value] ?? count(value),
  "seconds-per-second": (value) => seconds(value) + "/s",
  "bytes-per-second": (value) => bytes(value) + "/s",
};
/** A value in a unit of the API; "–" if it is not known. */
export function amount(value, unit) {
  return value === null || value === undefined ? UNKNOWN : (WRITERS[unit] ?? count)(value);
}
/** A bound of a bucket; null is no bound. */
export const bound = (value, unit) => (value === null ? "∞" : amount(value, unit));

export const clock = (time) => new Date(time).toISOString().slice(11, 19);
export const date = (time) => new Date(time).toISOString().slice(0, 19).replace("T", " ");

/** Put something new in a place, and keep what a reader has there: the focus, and how far it is scrolled. */
export function renew(place, ...children) {
  const active = place.contains(document.activeElement) ? document.activeElement : null;
  const href = active?.getAttribute("href"), label = active?.getAttribute("aria-label");
  const { scrollLeft, scrollTop } = place.querySelector(".scroll") ?? {};
  place.replaceChildren(...children);
  place.querySelector(".scroll")?.scrollTo(scrollLeft ?? 0, scrollTop ?? 0);
  if (!active || active.isConnected) return;
  const same = [...place.querySelectorAll("a, [tabindex]")].find((each) => (href ? each.getAttribute("href") === href
    : label && each.getAttribute("aria-label") === label));
  same?.focus({ preventScroll: true });
}

export function table(caption, heads, rows) {
  const head = el("tr", {}, ...heads.map((text) => el("th", { scope: "col" }, text)));
  const body = rows.map((cells) => el("tr", {}, ...cells.map((cell) => el("td", {}, cell))));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {}, el("caption", { class: "skip" }, caption), el("thead", {}, head), el("tbody", {}, ...body)));
}

/** A table that is made when it is opened, behind what it is the twin of. */
export function twin(title, make) {
  const place = el("div");
  const details = el("details", { ontoggle: () => place.replaceChildren(details.open ? make() : "") },
    el("summary", {}, title), place);
  details.renew = () => { if (details.open) renew(place, make()); };
  return details;
}
