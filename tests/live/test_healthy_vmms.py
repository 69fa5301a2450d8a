"""Healthy guests of every VMM at hand, while they start, idle and stop: no rule of ``doctor`` fires on them.

QEMU 7.2 and 10.0 with their own firmware, on each kind of machine and interrupt controller; and processes with a VM
that are called and started like VMMs that are not installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from layouts import VmLayout, guest_of

from kvmscope.collect import Host, open_host
from kvmscope.lab.qemu import PROGRAM
from kvmscope.view.watch import HostView, Watch

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "bpf", "qemu")]

INTERVAL_S = 0.7
OF_THE_MACHINE = {"cpu-wait", "preempted", "poll-cut-short"}
"""True of a guest beside tests that want its CPUs."""
MACHINES = ("pc", "q35", "microvm", "pc,kernel_irqchip=split", "pc,kernel_irqchip=off")
SHAPED: Mapping[str, tuple[str, ...]] = {
    "firecracker": ("firecracker", "--id", "fc-1", "--api-sock", "/run/fc-1.sock"),
    "cloud-hypervisor": ("cloud-hypervisor", "--api-socket", "/run/vms/ch-1/api.sock", "--cpus", "boot=1"),
    "crosvm": ("crosvm", "run", "--name", "cros-1", "vmlinux"),
    "libkrun": ("msb", "machine", "--name", "krun-1"),
}
NAMES = {"fc-1", "ch-1", "cros-1", "krun-1"}


def with_firmware(name: str, machine: str) -> VmLayout:
    return VmLayout([PROGRAM, "-name", name, "-cpu", "qemu64", "-smp", "2", "-machine", machine], has_firmware=True)


def watched(host: Host, watch: Watch, intervals: int) -> list[HostView]:
    views = (watch.add(host.look_after(INTERVAL_S)) for _ in range(intervals))
    return [view for view in views if view is not None]


def found(views: list[HostView], pids: set[int]) -> set[str]:
    """The rules that fired on one of these VMMs in any interval."""
    return {
        finding.rule.slug
        for view in views
        for finding in view.judgement.findings
        if int(view.scene.sample.vms.pid[finding.vm_row]) in pids
    }


def test_no_rule_fires_while_guests_of_any_vmm_start_idle_and_stop(tmp_path: Path, new_qemu_root: Path) -> None:
    layouts = {f"q{number}": with_firmware(f"q{number}", machine) for number, machine in enumerate(MACHINES)}
    layouts |= {name: VmLayout(argv, executable=None) for name, argv in SHAPED.items()}
    new = with_firmware("new", "q35")
    layouts["new"] = VmLayout(new.argv, executable=str(new_qemu_root / "usr/bin" / PROGRAM), has_firmware=True)
    watch = Watch(keeps_ended=True)
    with open_host("bpf") as host:
        views = watched(host, watch, 2)
        with ExitStack() as ends:
            started = [ends.enter_context(guest_of(each, tmp_path / name)) for name, each in layouts.items()]
            pids = {guest.pid for guest in started}
            views += watched(host, watch, 5)
            vmms = _vmms(views[-1], pids)
        views += watched(host, watch, 2)
    assert len(vmms) == len(layouts)
    assert {vmms[name] for name in NAMES} == set(SHAPED)
    assert {vmm for name, vmm in vmms.items() if name not in NAMES} == {"qemu"}
    assert found(views, pids) - OF_THE_MACHINE == set()


def _vmms(view: HostView, pids: set[int]) -> Mapping[str, str | None]:
    """What program each VMM is, by the name of its VM."""
    scene = view.scene
    rows = (row for row in range(len(scene.sample.vms)) if scene.pid(row) in pids)
    return {scene.identities[row].name: scene.vmm(row) for row in rows}
