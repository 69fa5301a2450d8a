"""Crafted hosts as a Prometheus has scraped them: VMs in trouble beside one that works, on kernels of choice."""

from __future__ import annotations

from dataclasses import replace

from crafted_host import NOON_NS, CraftedHost
from loads import machine
from troubles import BUSY, TROUBLES

from kvmscope.scene import Scene, VmIdentity

STEP_S, SCRAPES = 15, 13
LAST_S = NOON_NS / 1e9 + (SCRAPES - 1) * STEP_S


def scenes_of(
    name: str, *troubles: str, apicv: frozenset[str] | None = frozenset(), kernel: str = "6.18.4"
) -> list[Scene]:
    """The scenes of a host whose VMs have a trouble each, and of one VM that works; a scrape each."""
    host = CraftedHost()
    for each in (*troubles, "busy"):
        host.add(each, apicv=apicv, active=not apicv)
    facts = replace(machine(kernel, hostname=name, halt_poll_ns="200000"))
    scenes = []
    for _ in range(SCRAPES):
        sample = host.sample()
        identities = tuple(VmIdentity(vm.name, None) for vm in host.vms)
        scenes.append(Scene(sample, identities, facts, {}))
        begin_s = host.now_s
        for each in (*troubles, "busy"):
            host.now_s = begin_s
            host.run(STEP_S, {**BUSY, **(TROUBLES[each].rates if each in TROUBLES else {})}, vm=each)
    return scenes


def moved(scenes: list[Scene], last_s: float) -> list[Scene]:
    """The same scenes, of which the last was taken at this time."""
    shift_ns = round(last_s * 1e9) - scenes[-1].sample.taken_ns
    return [replace(scene, sample=replace(scene.sample, taken_ns=scene.sample.taken_ns + shift_ns)) for scene in scenes]
