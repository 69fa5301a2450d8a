// What is shown: the place in the address after #, and the questions to the server that belong to it.

export const state = { metrics: [], timeline: null, summary: null, sort: null, where: {}, isPast: true };

/** The parts of the address: vm, vcpu, stat or metric, provider, at, host. */
export function read() {
  return Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
}
/** The address of a place; null leaves a part out. The time that is shown stays the same. */
export function link(parts) {
  const { at, host } = state.where;
  const kept = Object.entries({ at, host, ...parts }).filter(([, value]) => value !== null && value !== undefined);
  return "#" + new URLSearchParams(kept);
}
export const isLive = () => state.timeline?.live !== false && !state.where.at && !state.where.host;
/** The VM or vCPU that is shown, as the server takes it. */
export const subject = () => state.where.vm && state.where.vm + (state.where.vcpu ? "/" + state.where.vcpu : "");

export async function api(path, parameters = {}) {
  const known = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined);
  const answer = await fetch("api/v1/" + path + (known.length ? "?" + new URLSearchParams(known) : ""));
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.message || answer.statusText);
  return body;
}
/** A question of the moment that is shown. */
export const atMoment = (path, parameters = {}) => {
  const { at, host } = state.where;
  return api(path, { ...parameters, at, host });
};
/** A question of the hour before it. */
export const overTime = (path, parameters = {}) => {
  const { at, host } = state.where;
  return api(path, { ...parameters, until: at, host });
};
