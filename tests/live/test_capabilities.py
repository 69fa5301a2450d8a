"""The iterator by an unprivileged user with CAP_BPF and CAP_PERFMON, and /dev/kvm that it may open."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.live, pytest.mark.needs("root", "kvm", "bpf", "setpriv", "unshare")]

READ = """
from kvmscope.collect import open_host
with open_host("bpf") as host:
    print(len(host.read().vms) >= 0, host.source)
"""
SETUP = """
mount -t tmpfs tmpfs /mnt && mknod -m 666 /mnt/kvm c 10 232 && mount --bind /mnt/kvm /dev/kvm &&
exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all,{0} --ambient-caps=-all,{0} "$@"
"""


def read_with(capabilities: str) -> subprocess.CompletedProcess[str]:
    script = SETUP.format(capabilities)
    command = ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-c", READ]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path("/"))


def test_bpf_and_perfmon_suffice_to_read_every_vm() -> None:
    done = read_with("+bpf,+perfmon")
    if "Permission denied" in done.stderr and sys.executable in done.stderr:
        pytest.skip(f"an unprivileged user may not run {sys.executable}")
    assert done.stdout == "True bpf\n", done.stderr


@pytest.mark.parametrize("capability", ["+bpf", "+perfmon"])
def test_one_of_them_does_not(capability: str) -> None:
    assert "needs CAP_BPF and CAP_PERFMON" in read_with(capability).stderr
