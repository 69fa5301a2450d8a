"""VMs as KubeVirt, Proxmox, Nova, Incus and OpenNebula lay them out, with real processes in namespaces and cgroups.

Each is named, its manager recognized, its configuration read, and advice given in its manager's words; and no rule
fires on any of them while its guest is idle or stopped.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from layouts import VmLayout, guest_of

from kvmscope.lab.qemu import PROGRAM

pytestmark = [pytest.mark.live, pytest.mark.needs("root", "kvm", "bpf", "qemu", "unshare")]

OF_THE_MACHINE = {"cpu-wait", "preempted"}
"""True of a VM whose threads other tests keep from their CPUs."""

POD = "0c0ffee0-1111-2222-3333-444455556666"
UUID = "83a66210-c446-4ff1-8fce-91f57f3c48f1"
CONTAINER = "cri-containerd-" + "ab" * 32


@dataclass(frozen=True)
class Expected:
    """What must be said of a VM. ``words``: how its outermost party writes that there is no HPET."""

    name: str
    managed_by: str | None
    known_as: Mapping[str, str]
    words: str
    uuid: str | None = None
    irqchip: str = "kernel"


def smbios(text: str) -> tuple[str, str]:
    return "-smbios", f"type=1,{text},uuid={UUID}"


def qemu(program: str, name: str, *options: str, **how: Any) -> VmLayout:
    """A guest that is offered some of Hyper-V, and not its clock."""
    return VmLayout([program, "-name", name, "-cpu", "qemu64,hv-relaxed=on", *options], **how)


MONITOR = (
    "-chardev",
    "socket,id=charmonitor,path=monitor,server=on,wait=off",
    "-mon",
    "chardev=charmonitor,id=monitor",
)
"""As libvirt has it."""
OWN_PIDS = ("--pid", "--mount", "--mount-proc", "--ipc", "--uts")
QEMU_CONF = Path("etc/incus/win/qemu.conf")
POD_SLICE = f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD.replace('-', '_')}.slice"
LAYOUTS: Mapping[str, tuple[VmLayout, Expected]] = {
    "kubevirt": (
        qemu(
            "/usr/libexec/qemu-kvm",
            "guest=shop_win,debug-threads=on",
            "-S",
            *smbios("manufacturer=KubeVirt,product=None,family=KubeVirt"),
            *MONITOR,
            cgroup=f"{POD_SLICE}/{CONTAINER}.scope",
            namespaces=OWN_PIDS,
        ),
        Expected(
            "shop_win",
            "kubevirt",
            {
                "kubevirt.namespace": "shop",
                "kubevirt.vm": "win",
                "libvirt.domain": "shop_win",
                "kubernetes.pod_uid": POD,
                "kubernetes.namespace": "shop",
                "kubernetes.pod": "virt-launcher-win-x7k2p",
            },
            "KubeVirt: spec.template.spec.domain.clock.timer.hpet.present: false",
            UUID,
        ),
    ),
    "proxmox": (
        qemu(
            "/usr/bin/kvm",
            "web,debug-threads=on",
            *("-id", "100", "-pidfile", "/var/run/qemu-server/100.pid"),
            executable=None,
            cgroup="qemu.slice/100.scope",
        ),
        Expected("web", "proxmox", {"proxmox.vmid": "100"}, "Proxmox VE: ostype of the guest's system"),
    ),
    "proxmox by its cgroup": (
        qemu("/usr/bin/kvm", "db", cgroup="qemu.slice/101.scope"),
        Expected("db", "proxmox", {"proxmox.vmid": "101"}, "Proxmox VE: ostype of the guest's system"),
    ),
    "nova": (
        qemu(
            "/usr/bin/qemu-system-x86_64",
            "guest=instance-00000001,debug-threads=on",
            *smbios("manufacturer=OpenStack Foundation,product=OpenStack Nova,family=Virtual Machine"),
            *MONITOR,
            cgroup="machine.slice/machine-qemu\\x2d1\\x2dinstance\\x2d00000001.scope/libvirt/emulator",
        ),
        Expected(
            "instance-00000001",
            "openstack",
            {
                "openstack.uuid": UUID,
                "libvirt.domain": "instance-00000001",
                "libvirt.title": "the shop",
                "openstack.name": "shop-db",
                "openstack.project": "shop",
                "openstack.flavor": "m1.large",
            },
            "OpenStack Nova: image property hw_time_hpet=False",
            UUID,
        ),
    ),
    "incus": (
        qemu("/opt/incus/bin/qemu-system-x86_64", "win", "-S", "-readconfig", str(QEMU_CONF)),
        Expected("win", "incus", {"incus.instance": "win"}, "Incus: raw.qemu='-machine hpet=off'"),
    ),
    "opennebula": (
        qemu("/usr/bin/qemu-kvm-one", "guest=one-42", *MONITOR),
        Expected(
            "one-42",
            "opennebula",
            {"opennebula.vm": "42", "libvirt.domain": "one-42"},
            "OpenNebula: <timer name='hpet' present='no'/>",
        ),
    ),
    "libvirt by its cgroup": (
        qemu("qemu-system-x86_64-ev", "guest=plain", cgroup="machine.slice/machine-qemu\\x2d2\\x2dplain.scope"),
        Expected("plain", "libvirt", {"libvirt.domain": "plain"}, "libvirt: <timer name='hpet' present='no'/>"),
    ),
    "upgraded since it started": (
        qemu("vm-runner", "old", is_upgraded=True),
        Expected("old", None, {}, "QEMU: -machine hpet=off"),
    ),
    "microvm.nix": (
        VmLayout(
            ["microvm@shop", "-M", "pc,kernel_irqchip=split", "-cpu", "qemu64,hv-relaxed=on"], cgroup="system.slice/x"
        ),
        Expected("shop", None, {}, "QEMU: -machine hpet=off", irqchip="split"),
    ),
    "in a user namespace": (
        qemu("one-qemu", "rootless", namespaces=("--user", "--map-root-user", *OWN_PIDS)),
        Expected("rootless", None, {}, "QEMU: -machine hpet=off"),
    ),
}


NOVA_XML = f"""<domstatus state='running' pid='1'><domain type='kvm'><name>instance-00000001</name><uuid>{UUID}</uuid>
<title>the shop</title><metadata><nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'>
<nova:name>shop-db</nova:name><nova:flavor name='m1.large'/><nova:owner><nova:project uuid='1'>shop</nova:project>
</nova:owner></nova:instance></metadata></domain></domstatus>"""

INCUS_CONF = '[rtc]\n  base = "utc"\n'

LOOK = """
import json, sys
from kvmscope.catalog.settings import ways_of
from kvmscope.collect import open_host
from kvmscope.export.subjects import Subjects
from kvmscope.host.config import config_of
from kvmscope.host.config.clocks import clocks_of
from kvmscope.view.jsonout import to_object
from kvmscope.view.listing import vm_list_view
from kvmscope.view.remedies import parties_of_vm
from kvmscope.view.watch import Watch
watch = Watch(keeps_ended=True)
with open_host("bpf") as host:
    for _ in range(4):
        scene = host.look_after(0.5)
        view = watch.add(scene)
findings = to_object(view.report())["findings"]
told = []
listed = to_object(vm_list_view(scene))["vms"]
for vm, identity, overview in zip(listed, scene.identities, view.overview.vms):
    config, clocks = config_of(identity.process, identity.domain_xml), clocks_of(identity.process, identity.domain_xml)
    told.append({
        "vm": vm,
        "irqchip": config.irqchip.value.value,
        "enlightened": clocks.enlightened.value,
        "clock": clocks.hyperv_clock.value,
        "words": [str(way) for way in ways_of(["no-hpet"], parties_of_vm(identity))],
        "paused": overview.paused,
        "rules": [each["rule"] for each in findings if each["vm"] == vm["id"]],
    })
json.dump(told, sys.stdout)
"""
"""Run where the host's files are those of the managers."""


NEW_QEMU = qemu("/usr/libexec/qemu-kvm", "guest=new,debug-threads=on", "-machine", "pc-q35-10.0")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    folder = tmp_path_factory.mktemp("managers")
    with ExitStack() as ends:
        guests = {
            name: ends.enter_context(guest_of(layout, folder / name.replace(" ", "-"), {QEMU_CONF: INCUS_CONF}))
            for name, (layout, _) in LAYOUTS.items()
        }
        by_pid = {each["vm"]["pid"]: each for each in _look(folder / "host")}
        yield {name: by_pid.get(guest.pid) for name, guest in guests.items()}


def _look(root: Path) -> list[dict[str, Any]]:
    """What kvmscope says on a host with libvirt's and kubelet's files, in a mount namespace of its own."""
    (root / "run/libvirt/qemu").mkdir(parents=True)
    (root / "run/libvirt/qemu/instance-00000001.xml").write_text(NOVA_XML, encoding="utf-8")
    (root / f"log/pods/shop_virt-launcher-win-x7k2p_{POD}").mkdir(parents=True)
    places = (("run", "/run"), ("log", "/var/log"))
    prepare = " && ".join(f'mount -t tmpfs tmpfs {to} && cp -r "$0/{part}/." {to}' for part, to in places)
    command = ["unshare", "--mount", "bash", "-c", f'{prepare} && exec "$@"', str(root), sys.executable, "-c", LOOK]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_vm_laid_out_by_its_manager_is_named_and_explained(name: str, told: Mapping[str, Any]) -> None:
    found, expected = told[name], LAYOUTS[name][1]
    assert found is not None, "it is not seen"
    vm = found["vm"]
    assert (vm["vmm"], vm["name"], vm["plain_name"]) == ("qemu", expected.name, expected.name)
    assert (vm["managed_by"], vm["known_as"], vm["uuid"]) == (expected.managed_by, expected.known_as, expected.uuid)
    assert [vcpu["id"] for vcpu in vm["vcpus"]] == [0]
    assert (found["irqchip"], found["enlightened"], found["clock"]) == (expected.irqchip, True, False)
    assert found["words"][0].startswith(expected.words)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_stopped_vm_is_told_from_an_idle_one(name: str, told: Mapping[str, Any]) -> None:
    layout = LAYOUTS[name][0]
    never_runs = layout.executable is None
    assert told[name]["paused"] is ("-S" in layout.argv or never_runs)


@pytest.mark.parametrize("name", LAYOUTS)
def test_no_rule_fires_on_an_idle_or_stopped_vm_of_any_manager(name: str, told: Mapping[str, Any]) -> None:
    assert set(told[name]["rules"]) <= OF_THE_MACHINE


def test_a_vm_of_qemu_10_is_named_and_explained(new_qemu_root: Path, tmp_path: Path) -> None:
    program = str(new_qemu_root / "usr/bin" / PROGRAM)
    with guest_of(replace(NEW_QEMU, executable=program), tmp_path / "guest") as guest:
        (found,) = (each for each in _look(tmp_path / "host") if each["vm"]["pid"] == guest.pid)
    assert (found["vm"]["vmm"], found["vm"]["name"], found["vm"]["managed_by"]) == ("qemu", "new", None)
    assert (found["irqchip"], found["enlightened"], found["clock"]) == ("kernel", True, False)
    assert found["words"][0].startswith("QEMU: -machine hpet=off")
    assert found["rules"] == []
