"""A libvirtd of this test's own, in a mount namespace: its VMs are named, read, and explained in libvirt's words.

It keeps its files in directories that only its namespace sees, so libvirt of the machine is left alone; kvmscope runs
outside, as beside a libvirt in a container.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvmscope.catalog.findings import load_findings
from kvmscope.collect import open_host
from kvmscope.host.config import config_of
from kvmscope.lab.qemu import rom_image
from kvmscope.linux.kvmfiles import FdKind, look_at
from kvmscope.scene import Scene
from kvmscope.view.listing import vm_list_view
from kvmscope.view.remedies import parties_of_vm, remedy_views
from kvmscope.view.subjects import find_subject
from kvmscope.view.watch import Watch

pytestmark = [pytest.mark.live, pytest.mark.needs("root", "kvm", "bpf", "qemu", "unshare", "libvirtd")]

OF_THE_MACHINE = {"cpu-wait", "preempted"}
"""True of a VM whose threads other tests keep from their CPUs."""

DEADLINE_S = 60.0
UUID = "0e44be5a-ff12-52fb-9413-07b52f3593c3"
OWN = ("/run", "/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt")
CONF = """
stdio_handler = "file"
security_driver = "none"
namespaces = []
cgroup_controllers = []
user = "root"
group = "root"
remember_owner = 0
"""
DOMAIN = """<domain type='kvm'>
  <name>{name}</name><uuid>{uuid}</uuid><title>the shop's database</title>
  <metadata><nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'><nova:name>shop-db</nova:name>
    <nova:flavor name='m1.large'/><nova:owner><nova:project uuid='1'>shop</nova:project></nova:owner>
  </nova:instance></metadata>
  <memory unit='MiB'>16</memory><vcpu>2</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type><loader readonly='yes' type='rom'>{rom}</loader></os>
  <features><acpi/><apic/></features>
  <cpu mode='custom' match='exact' check='none'><model fallback='allow'>qemu64</model></cpu>
  <clock offset='utc'><timer name='pit' tickpolicy='delay'/><timer name='hpet' present='no'/></clock>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator><memballoon model='none'/>
    <controller type='usb' model='none'/></devices>
</domain>"""


class OwnLibvirt:
    """``virsh`` runs beside the libvirtd, and sees its files."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def virsh(self, *words: str) -> str:
        command = ["nsenter", "--mount", f"--target={self.pid}", "virsh", "-c", "qemu:///system", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def pid_of(self, name: str) -> int:
        path = Path(f"/proc/{self.pid}/root/run/libvirt/qemu/{name}.pid")
        return int(path.read_text(encoding="ascii"))


@pytest.fixture(scope="module")
def libvirt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnLibvirt]:
    folder = tmp_path_factory.mktemp("libvirt")
    (folder / "qemu.conf").write_text(CONF, encoding="ascii")
    (folder / "rom").write_bytes(rom_image(0))
    mounts = " && ".join(f"mkdir -p {place} && mount -t tmpfs tmpfs {place}" for place in OWN)
    users = " && ".join(
        f"mount --bind {with_own_user(Path(file), folder)} {file}" for file in ("/etc/passwd", "/etc/group")
    )
    prepare = f"{mounts} && {users} && cp {folder}/qemu.conf /etc/libvirt/ && exec libvirtd"
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(["unshare", "--mount", "sh", "-c", prepare], stdout=log, stderr=log)
    own = OwnLibvirt(daemon.pid)
    started: list[int] = []
    try:
        socket = Path(f"/proc/{daemon.pid}/root/run/libvirt/libvirt-sock")
        wait_until(socket.exists, lambda: (folder / "log").read_text(errors="replace"), daemon)
        for name, uuid in (("instance-0000002a", UUID), ("plain", UUID.replace("0e", "1e", 1))):
            xml = folder / f"{name}.xml"
            text = DOMAIN.format(name=name, uuid=uuid, rom=folder / "rom")
            xml.write_text(text if name != "plain" else without_metadata(text), encoding="utf-8")
            own.virsh("create", str(xml))
            started.append(own.pid_of(name))
        yield own
    finally:
        for pid in started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        daemon.terminate()
        daemon.wait(DEADLINE_S)


def with_own_user(file: Path, folder: Path) -> Path:
    """A copy with the user that Debian's libvirt looks for, whatever its configuration says."""
    copy = folder / file.name
    entry = {"passwd": "libvirt-qemu:x:64055:64055::/var/lib/libvirt:/bin/false", "group": "libvirt-qemu:x:64055:"}
    copy.write_text(f"{file.read_text(encoding='utf-8').rstrip()}\n{entry[file.name]}\n", encoding="utf-8")
    return copy


def without_metadata(text: str) -> str:
    before, _, rest = text.partition("<metadata>")
    return before + rest.partition("</metadata>")[2]


def wait_until(holds: Callable[[], bool], log: Callable[[], str], daemon: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert daemon.poll() is None, log()
        assert time.monotonic() < deadline, log()
        time.sleep(0.02)


@pytest.fixture(scope="module")
def scenes(libvirt: OwnLibvirt) -> list[Scene]:
    for name in ("instance-0000002a", "plain"):
        holder = look_at(libvirt.pid_of(name))
        assert holder is not None
        assert len(holder.of(FdKind.VCPU)) == 2
    with open_host("bpf") as host:
        return [host.look_after(0.5) for _ in range(4)]


def row_of(scene: Scene, pid: int) -> int:
    (row,) = (row for row in range(len(scene.sample.vms)) if scene.pid(row) == pid)
    return row


@pytest.mark.parametrize(
    ("name", "manager", "known_as"),
    [
        (
            "instance-0000002a",
            "openstack",
            {
                "libvirt.domain": "instance-0000002a",
                "libvirt.title": "the shop's database",
                "openstack.name": "shop-db",
                "openstack.project": "shop",
                "openstack.flavor": "m1.large",
            },
        ),
        ("plain", "libvirt", {"libvirt.domain": "plain", "libvirt.title": "the shop's database"}),
    ],
)
def test_a_domain_is_named_by_its_command_line_and_its_xml(
    name: str, manager: str, known_as: dict[str, str], libvirt: OwnLibvirt, scenes: list[Scene]
) -> None:
    row = row_of(scenes[-1], libvirt.pid_of(name))
    vm = vm_list_view(scenes[-1]).vms[row]
    assert (vm.vmm, vm.name, vm.managed_by, vm.known_as) == ("qemu", name, manager, known_as)
    assert vm.uuid == libvirt.virsh("domuuid", name).strip()
    assert find_subject(scenes[-1], name).vm == row


def test_the_configuration_is_what_libvirt_was_told(libvirt: OwnLibvirt, scenes: list[Scene]) -> None:
    identity = scenes[-1].identities[row_of(scenes[-1], libvirt.pid_of("plain"))]
    config = config_of(identity.process, identity.domain_xml)
    assert config.pit.value is not None
    assert config.pit.value.value == "reinject"
    assert (config.cpus.value, config.managed_by) == (2, "libvirt")


def test_remedies_are_in_the_words_of_libvirt_and_of_nova(libvirt: OwnLibvirt, scenes: list[Scene]) -> None:
    remedies = next(rule.remedies for rule in load_findings() if rule.slug == "mmio-storm")
    for name, words in (("plain", "libvirt: <target bus='virtio'/>"), ("instance-0000002a", "OpenStack Nova: image")):
        identity = scenes[-1].identities[row_of(scenes[-1], libvirt.pid_of(name))]
        ways = [way.text for remedy in remedy_views(remedies, [parties_of_vm(identity)]) for way in remedy.how]
        assert any(way.startswith(words) for way in ways), ways


def test_no_rule_fires_on_idle_domains(libvirt: OwnLibvirt, scenes: list[Scene]) -> None:
    watch = Watch(keeps_ended=True)
    view = None
    for scene in scenes:
        view = watch.add(scene)
    assert view is not None
    own = {scenes[-1].sample.vms.vm_id(row_of(scenes[-1], libvirt.pid_of(n))) for n in ("plain", "instance-0000002a")}
    assert {finding.rule for finding in view.report().findings if finding.vm in own} <= OF_THE_MACHINE


def test_nothing_of_libvirt_is_on_this_machine(libvirt: OwnLibvirt) -> None:
    assert shutil.which("libvirtd")
    assert not Path("/run/libvirt/qemu/plain.xml").exists()
