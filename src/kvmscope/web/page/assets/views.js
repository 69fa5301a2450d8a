// The host, a VM or vCPU, and one statistic of it.

import { Chart, HeatChart } from "./charts.js";
import { $, UNKNOWN, amount, bound, el, printable, renew, table } from "./text.js";
import { atMoment, link, overTime, state, subject } from "./where.js";

const SLOW_MS = 15000;
let charts = [], heats = [], slowlyAt = 0, generation = 0;

/** Forget what was drawn for another place. */
export function begin() {
  for (const each of [...charts, ...heats]) each.destroy();
  [charts, heats, slowlyAt] = [[], [], 0];
  generation += 1;
}
export function redraw() {
  for (const each of [...charts, ...heats]) each.draw();
}
/** Whether another place is shown by now. */
function guard() {
  const mine = generation;
  return () => mine !== generation;
}
const isDue = () => {
  if (Date.now() - slowlyAt < SLOW_MS) return false;
  slowlyAt = Date.now();
  return true;
};

// --- the host ----------------------------------------------------------------------------------------------------------

export function showVms(summary) {
  const by = state.sort, sought = $("vm-filter").value.trim().toLowerCase();
  const rows = summary.vms.filter((vm) => vm.name.toLowerCase().includes(sought));
  if (by) rows.sort((a, b) => (b.metrics[by] ?? -1) - (a.metrics[by] ?? -1));
  renew($("vm-rows"), ...rows.map((vm) => el("tr", {},
    el("td", {}, el("a", { href: link({ vm: vm.id }) }, printable(vm.name))),
    el("td", { class: "left" }, vm.silent_s === null ? printable(vm.vmm ?? UNKNOWN) : "not answering"),
    el("td", {}, String(vm.vcpus)),
    el("td", { class: "left " + vm.apicv }, vm.apicv),
    ...state.metrics.map((metric) => el("td", {}, amount(vm.metrics[metric.name], metric.unit))),
    el("td", {}, vm.findings ? String(vm.findings) : ""))));
  $("vm-total").replaceChildren(
    el("td", {}, "total"), el("td", {}), el("td", {}, String(summary.vcpus_total)), el("td", {}),
    ...state.metrics.map((metric) => el("td", {}, amount(summary.total[metric.name], metric.unit))), el("td", {}));
  const hidden = summary.vms_total - summary.vms.length;
  $("vm-note").textContent = hidden > 0 ? `and ${hidden} more VMs with fewer exits; find one by its name` : "";
}

/** VMs by name, also those that the table has no room for. */
export async function findVms() {
  const sought = $("vm-filter").value.trim().toLowerCase();
  if (state.summary) showVms(state.summary);
  const place = $("vm-found");
  if (!sought || !state.summary || state.summary.vms_total <= state.summary.vms.length) return place.replaceChildren();
  const { vms } = await atMoment("vms");
  if ($("vm-filter").value.trim().toLowerCase() !== sought) return;
  const shown = new Set(state.summary.vms.map((vm) => vm.id));
  const found = vms.filter((vm) => !shown.has(vm.id) && vm.name.toLowerCase().includes(sought));
  place.replaceChildren(...found.slice(0, 50).flatMap((vm) => [el("a", { href: link({ vm: vm.id }) }, printable(vm.name)), " "]));
  if (!found.length) place.replaceChildren("no other VM has this in its name");
}

/** Each rule that found something. What is open stays open, and is as it was when it was opened. */
export function showRules(rules) {
  const place = $("rules");
  const moment = [state.where.at, state.where.host].join();
  const kept = place.dataset.moment === moment
    ? new Map([...place.children].map((each) => [each.dataset.rule, each])) : new Map();
  place.dataset.moment = moment;
  const shown = rules.map((rule) => sayRule(kept.get(rule.rule) ?? newRule(rule), rule));
  if (!shown.length) shown.push(el("p", {}, "No rule found a problem."));
  if (shown.length !== place.children.length || shown.some((each, at) => each !== place.children[at])) renew(place, ...shown);
}
function newRule(rule) {
  const body = el("div");
  const details = el("details", { ontoggle: () => details.open && showRule(rule.rule, body) },
    el("summary", {}, el("span", { class: "level" }, rule.severity), ` ${rule.title} `, el("span", { class: "soft" })), body);
  return el("div", { class: "rule " + rule.severity, "data-rule": rule.rule }, details);
}
function sayRule(shown, rule) {
  const cost = rule.cost_cpus === null ? "" : ` · about ${amount(rule.cost_cpus, "cpus")}`;
  shown.querySelector(".soft").textContent = `${rule.rule} · ${rule.findings} found${cost}`;
  return shown;
}

const remedies = (list) => list.map((remedy) => el("p", {}, el("b", {}, "Fix: "), remedy.do, " ",
  ...remedy.how.flatMap((way) => [el("code", {}, way.text), " "]), el("span", { class: "soft" }, "Trade-off: " + remedy.price)));

const sizeUnits = { vcpus: "vCPU of wall time", accesses_per_s: "accesses a second", errors: "errors" };

const causeText = ({ name, meaning, findings, size }) =>
  `${printable(name)}: ${meaning} (${findings}${size ? `; ${amount(size.value)} ${sizeUnits[size.unit]} in all` : ""})`;

async function showRule(rule, body) {
  try {
    const report = await atMoment("doctor", { rule });
    const total = report.by_rule[0];
    if (!total) return body.replaceChildren(el("p", {}, "It no longer fires."));
    const names = [...new Set(total.worst.flatMap((worst) => Object.keys(worst.evidence)))];
    body.replaceChildren(
      el("p", {}, total.explanation), ...remedies(total.remedies),
      ...total.causes.map((cause) => el("p", {}, causeText(cause))),
      table("Evidence of " + rule, ["VM", "vCPU", ...names], total.worst.map((worst) => [
        el("a", { href: link({ vm: worst.vm }) }, printable(worst.name ?? worst.vm)),
        worst.vcpu === null ? "" : String(worst.vcpu), ...names.map((name) => amount(worst.evidence[name]))])));
  } catch (error) {
    body.replaceChildren(el("p", {}, error.message));
  }
}

export async function showHost() {
  const isOld = guard();
  const wanted = [];
  if (isDue()) {
    wanted.push(overTime("histories").then((found) => !isOld() && showMetrics($("charts"), found)));
    wanted.push(overTime("heat").then((found) => !isOld() && showHeats($("host-heat"), found.heats)));
  }
  await Promise.all(wanted);
}

/** The next interval of the host, without asking for its hour again. */
export function addInterval(summary) {
  const time = Date.parse(summary.time) / 1000;
  for (const chart of charts) if (chart.metric && !chart.vm) chart.add(time, summary.total[chart.metric]);
}

function showMetrics(place, found) {
  if (!charts.length) {
    place.replaceChildren();
    charts = state.metrics.map((metric) => {
      const chart = new Chart(place, metric.title, metric.help, metric.unit);
      return Object.assign(chart, { metric: metric.name, vm: found.vm });
    });
  }
  for (const chart of charts) chart.set(found.times, found.values[chart.metric]);
}

function showHeats(place, found) {
  const names = found.map((heat) => heat.provider + heat.scope + heat.stat).join(" ");
  if (!heats.length || place.dataset.names !== names) {
    place.dataset.names = names;
    place.replaceChildren();
    heats = found.map(() => new HeatChart(place));
    if (!found.length) place.replaceChildren(el("p", {}, "No histogram has values in this time."));
  }
  heats.forEach((heat, at) => heat.set(found[at]));
}

// --- a VM or vCPU ------------------------------------------------------------------------------------------------------

export async function showSubject() {
  const isOld = guard(), { vm: id, vcpu } = state.where, name = subject();
  const [overview, list, report, apicv] = await Promise.all([
    atMoment("status", { vm: id }), atMoment("stats", { vm: name }), atMoment("doctor", { vm: name }), atMoment("apicv", { vm: name })]);
  if (isOld()) return;
  const [vm] = overview.vms;
  const shown = printable(list.vm.name);
  $("subject-name").textContent = list.vcpu ? `vCPU ${list.vcpu.id} of ${shown}` : shown;
  const facts = list.vcpu ? [list.vcpu.tid && "thread " + list.vcpu.tid]
    : [vm.vmm, vm.managed_by, vm.pid && "process " + vm.pid, vm.uuid, `${vm.vcpus.length} vCPUs`];
  $("subject-facts").textContent = facts.filter(Boolean).map(printable).join(" · ");
  $("vcpus-part").hidden = Boolean(vcpu);
  showFindings(report.findings);
  if (!vcpu) showVcpus(vm);
  showApicv(apicv);
  showStats(list.measurands);
  if (!isDue()) return;
  const heat = overTime("heat", { vm: name }).then((found) => !isOld() && showHeats($("heat"), found.heats));
  if (vcpu) $("subject-charts-part").hidden = true;
  else {
    $("subject-charts-part").hidden = false;
    const found = await overTime("histories", { vm: id });
    if (!isOld()) showMetrics($("subject-charts"), found);
  }
  await heat;
}

function showFindings(findings) {
  renew($("subject-findings"), ...findings.map((finding) => el("div", { class: "rule " + finding.severity },
    el("p", {}, el("span", { class: "level" }, finding.severity), ` ${finding.title} `,
      el("span", { class: "soft" }, [finding.rule, finding.vcpu === null ? null : `vCPU ${finding.vcpu}`,
        ...Object.entries(finding.evidence).map(([name, value]) => `${name} ${amount(value)}`)].filter(Boolean).join(" · "))),
    el("p", {}, finding.explanation), ...remedies(finding.remedies))));
  if (!findings.length) renew($("subject-findings"), el("p", {}, "No rule found a problem."));
}

const activity = (active) => (active === null ? UNKNOWN : active ? "active" : "not active");

function showVcpus(vm) {
  renew($("vcpus"), table("vCPUs", ["vCPU", "APICv", ...state.metrics.map((metric) => metric.title)],
    vm.vcpus.map((vcpu) => [el("a", { href: link({ vm: vm.id, vcpu: vcpu.id }) }, `vCPU ${vcpu.id}`), activity(vcpu.apicv_active),
      ...state.metrics.map((metric) => amount(vcpu.metrics[metric.name], metric.unit))])));
}

const items = (texts) => texts.filter(Boolean).map((text) => el("li", {}, text));
const SWITCHED = { true: "on", false: "off", null: "unknown" };

function reasons(verdict) {
  return [
    ...verdict.reasons.map((reason) => el("li", {}, el("b", {}, reason.name), ": " + reason.meaning,
      el("ul", {}, ...items([reason.cause && "Cause: " + printableLong(reason.cause), reason.remedy && "Fix: " + reason.remedy,
        reason.share !== null && `Held for ${amount(reason.share, "share")} of the interval`,
        ...(reason.evidence ?? []).map((each) => printableLong(each.text))])))),
    ...verdict.limits.map((limit) => el("li", {}, `${limit.text} ${limit.cost}`, el("ul", {}, ...items(["Fix: " + limit.remedy])))),
    ...items(verdict.notes.map(printableLong))];
}

function showApicv(apicv) {
  const { host, vms: [vm] } = apicv;
  const supported = host.supported.value === false ? "not supported" : SWITCHED[host.switched_on.value];
  renew($("apicv"), el("ul", { class: "tree" },
    el("li", {}, "Host: ", el("b", {}, supported), el("ul", {}, ...items([host.supported.evidence, host.switched_on.evidence].map(printableLong)))),
    el("li", {}, "VM: ", el("b", { class: vm.apicv.state }, vm.apicv.state), el("ul", {}, ...reasons(vm.apicv))),
    ...vm.vcpus.map((vcpu) => el("li", {}, `vCPU ${vcpu.id}: `, el("b", { class: vcpu.state }, vcpu.state),
      el("ul", {}, ...items([vcpu.active_share !== null && `Active for ${amount(vcpu.active_share, "share")} of the interval`]),
        ...reasons(vcpu))))));
}

let listed = [];
export function showStats(measurands = listed) {
  listed = measurands;
  const sought = $("stat-filter").value.trim().toLowerCase(), leavesZeros = $("no-zeros").checked;
  const rows = measurands.filter((each) => `${each.name} ${each.title}`.toLowerCase().includes(sought)
    && (!leavesZeros || Object.values(each.values).some(Boolean)));
  const { vm, vcpu } = state.where;
  const place = (each) => link({ vm, vcpu, ...(each.provider === null ? { metric: each.name } : { stat: each.name, provider: each.provider }) });
  renew($("stat-rows"), ...rows.map((each) => el("tr", {},
    el("td", {}, el("a", { href: place(each) }, printable(each.provider === null ? each.title : each.name))),
    el("td", {}, each.text), el("td", { class: "left" }, each.kind), el("td", { class: "left" }, each.tier ?? ""),
    el("td", { class: "left" }, each.provider ?? "metric"))));
  $("stat-note").textContent = rows.length < measurands.length ? `${measurands.length - rows.length} are left out` : "";
}

// --- one statistic -----------------------------------------------------------------------------------------------------

export async function showStat() {
  const isOld = guard(), { metric, stat, provider } = state.where, name = subject();
  const list = await atMoment("stats", { vm: name });
  const found = list.measurands.find((each) => (metric ? each.provider === null && each.name === metric
    : each.name === stat && (!provider || each.provider === provider)));
  if (isOld()) return;
  if (!found) throw new Error(`There is no ${metric ?? stat} here.`);
  const whose = list.vcpu ? `vCPU ${list.vcpu.id} of ${printable(list.vm.name)}` : printable(list.vm.name);
  $("stat-name").textContent = `${printable(metric ? found.title : found.name)} of ${whose}`;
  $("stat-now").textContent = [found.text, found.kind, found.tier].filter(Boolean).join(" · ");
  if (!isDue()) return;
  $("histogram-part").hidden = !found.is_histogram;
  const wanted = [
    overTime("history", { metric, stat, provider, vm: name }).then((history) => !isOld() && showLine(found, history)),
    atMoment("explain", { name: metric || [null, "", "kvm"].includes(found.provider) ? found.name : `${found.provider}.${found.name}` })
      .then((answer) => !isOld() && showMeaning(found, answer)),
  ];
  if (found.is_histogram) {
    wanted.push(overTime("heat", { vm: name, stat, provider }).then((answer) => !isOld() && showHeats($("stat-heat"), answer.heats)));
    wanted.push(atMoment("hist", { vm: name, stat, provider }).then((answer) => !isOld() && showHistogram(answer)));
  }
  await Promise.all(wanted);
}

function showLine(measure, history) {
  if (!charts.length) {
    $("stat-chart").replaceChildren();
    charts = [new Chart($("stat-chart"), measure.is_histogram ? `${printable(measure.name)}, median` : printable(measure.title), "", history.unit)];
  }
  charts[0].set(history.times, history.values);
}

function showHistogram(view) {
  const unit = view.stat.unit === "seconds" || view.stat.unit === "bytes" ? view.stat.unit : "count";
  const used = view.buckets.filter((bucket) => bucket.count);
  renew($("quantiles"), used.length ? table("Quantiles since creation", ["Quantile", "About", "From", "To below"],
    view.quantiles.map((each) => [`p${Number((each.q * 100).toPrecision(4))}`, amount(each.estimate, unit), amount(each.low, unit), bound(each.high, unit)]))
    : el("p", {}, view.count === null ? "It is not known." : "No value was counted since creation."));
  renew($("buckets"), used.length ? table("Buckets since creation", ["From", "To below", "Values"],
    used.map((bucket) => [amount(bucket.low, unit), bound(bucket.high, unit), String(bucket.count)])) : "");
}

const VERDICTS = { holds: "holds here", "does not hold": "does not hold here", "cannot tell": "may hold here" };

function showMeaning(measure, answer) {
  const what = measure.provider === null ? "metric" : "stat";
  const found = answer.found.find((each) => each.what === what && each.scope === measure.scope
    && (measure.provider === null || each.provider === measure.provider));
  if (!found) return renew($("meaning"), el("p", {}, "The catalogue does not have it."));
  const line = (title, text) => (text ? el("p", {}, el("b", {}, title + " "), printableLong(text)) : null);
  const list = (title, names) => line(title, names?.join(", "));
  renew($("meaning"), ...[
    line("Meaning:", found.meaning ?? "its publisher says nothing"),
    line("Good:", found.good), line("Bad:", found.bad), line("Formula:", found.formula),
    line("Stability:", found.tier && `${found.tier}${found.tier_means ? ": " + found.tier_means : ""}`),
    list("Kernels:", found.kernels && Object.entries(found.kernels).map(([architecture, release]) => `${architecture} since ${release}`)),
    list("Compare with:", found.compare), list("Metrics that read it:", found.metrics), list("Rules that read it:", found.rules),
    ...(found.caveats ?? []).filter((caveat) => !caveat.general || caveat.verdict === "holds").map((caveat) => el("div", { class: "rule info" },
      el("p", {}, el("b", {}, `Caveat ${caveat.slug}`), `, ${VERDICTS[caveat.verdict] ?? caveat.verdict}: `, caveat.text, " ",
        el("span", { class: "soft" }, printableLong(caveat.reason))))),
  ].filter(Boolean));
}
const printableLong = (text) => String(text).split(/(?<=\s)/).map((word) => printable(word.trimEnd()) + (/\s$/.test(word) ? " " : "")).join("");
