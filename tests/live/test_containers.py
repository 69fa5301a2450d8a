"""kvmscope in a container: a pid namespace of its own, and a container's default capabilities."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from kvmscope.lab import process
from kvmscope.lab.spec import BARE, LabSpec

pytestmark = [pytest.mark.live, pytest.mark.needs("root", "kvm", "bpf", "setpriv", "unshare")]

OWN_PIDS = ["unshare", "--pid", "--fork", "--mount-proc"]
DEFAULT = (
    "chown,dac_override,fsetid,fowner,mknod,net_raw,setgid,setuid,setfcap,setpcap,net_bind_service,sys_chroot,kill"
)
DEFAULT_CAPABILITIES = ["setpriv", "--bounding-set=-all,+" + DEFAULT.replace(",", ",+"), "--inh-caps=-all"]
"""Those that Docker and containerd leave to root in a container."""

LOOK = """
import json
from kvmscope.collect import open_host
from kvmscope.view.subjects import find_subject
with open_host("bpf") as host:
    scene = host.look()
ids = [str(scene.sample.vms.vm_id(row)) for row in range(len(scene.sample.vms))]
print(json.dumps({
    "names": [identity.name for identity in scene.identities],
    "found": [find_subject(scene, word).vm for id in ids for word in (id, f"vm-{id}")],
    "gaps": [gap.reason for gap in scene.sample.gaps],
}))
"""


@pytest.fixture(scope="module")
def two_vms() -> Iterator[None]:
    with process.start(LabSpec(workload=BARE, vms=2, vcpus=1)) as guests:
        guests.wait_for_ready()
        yield


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def kvmscope(*before: str, arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return run(*before, sys.executable, "-m", "kvmscope", *arguments)


@pytest.mark.usefixtures("two_vms")
def test_in_a_pid_namespace_of_its_own_bpf_sees_vms_and_says_once_why_they_have_no_names() -> None:
    done = run(*OWN_PIDS, sys.executable, "-c", LOOK)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    count = len(seen["names"])
    assert count >= 2
    assert all(name.startswith("vm-") for name in seen["names"])
    assert seen["found"] == [row for row in range(count) for _ in range(2)], "each can be addressed by its id"
    (gap,) = (gap for gap in seen["gaps"] if "pid namespace" in gap and "--pid=host" in gap)
    assert gap.startswith(f"{count} VMs run in processes outside this pid namespace")
    assert "--pid=host" in gap


@pytest.mark.usefixtures("two_vms")
def test_with_default_capabilities_and_pids_of_its_own_no_source_works_and_each_says_why() -> None:
    done = kvmscope(*OWN_PIDS, *DEFAULT_CAPABILITIES, arguments=("status", "--json"))
    assert done.returncode == 3, done.stdout
    assert "no VM is running" not in done.stdout + done.stderr
    assert "loading a BPF program needs CAP_BPF and CAP_PERFMON" in done.stderr
    assert "processes outside this pid namespace" in done.stderr
    assert "--pid=host" in done.stderr
    assert "run as root" not in done.stderr


@pytest.mark.usefixtures("two_vms")
def test_with_default_capabilities_and_the_hosts_pids_processes_that_cannot_be_inspected_are_counted() -> None:
    done = kvmscope(*DEFAULT_CAPABILITIES, arguments=("list", "--vms", "--source", "statsfd"))
    assert done.returncode == 3, done.stdout
    assert "could not be inspected" in done.stderr
    assert "no VM is running" not in done.stdout + done.stderr
