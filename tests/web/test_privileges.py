"""What is left of root: asked of the kernel, by a process that has dropped it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kvmscope.errors import UsageError
from kvmscope.web.server.privileges import NEEDED, drop_privileges

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to drop")

TRIES = """
import json, os, sys
from pathlib import Path
from kvmscope.linux import libc
from kvmscope.web.server.privileges import NEEDED, drop_privileges

def tried(action):
    try:
        action()
    except OSError as error:
        return error.errno
    return 0

name = drop_privileges(keep=NEEDED[sys.argv[1]])
secret = Path(sys.argv[2])
print(json.dumps({
    "user": name,
    "status": Path("/proc/self/status").read_text(),
    "root": tried(lambda: os.setuid(0)),
    "read": tried(secret.read_bytes),
    "write": tried(lambda: secret.write_bytes(b"")),
    "kvm": tried(lambda: os.close(os.open("/dev/kvm", os.O_RDWR))),
    "bpf": tried(lambda: libc.syscall(int(sys.argv[3]), 5, 0, 0)),
}))
"""
BPF_CALLS = {"x86_64": 321, "aarch64": 280, "s390x": 351, "riscv64": 280, "ppc64le": 361, "loongarch64": 280}
EPERM, EACCES = 1, 13


def dropped(source: str, folder: Path) -> dict[str, Any]:
    """What a process can do after the start of a server that reads ``source``."""
    secret = folder / "secret"
    secret.write_text("of root", encoding="ascii")
    secret.chmod(0o600)
    folder.chmod(0o755)
    command = [sys.executable, "-c", TRIES, source, str(secret), str(BPF_CALLS[os.uname().machine])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def masks(status: str) -> dict[str, int]:
    pairs = re.findall(r"^Cap(Inh|Prm|Eff|Bnd|Amb):\s*([0-9a-f]+)$", status, re.MULTILINE)
    return {name: int(mask, 16) for name, mask in pairs}


@pytest.mark.parametrize("source", ["pinned", "bpf", "recording"])
def test_nothing_is_left_where_the_source_needs_nothing(source: str, tmp_path: Path) -> None:
    found = dropped(source, tmp_path)
    assert masks(found["status"]) == dict.fromkeys(("Inh", "Prm", "Eff", "Bnd", "Amb"), 0)
    assert re.search(r"^NoNewPrivs:\s*1$", found["status"], re.MULTILINE)
    assert (found["root"], found["bpf"]) == (EPERM, EPERM)
    assert {found["read"], found["write"]} == {EACCES}


@pytest.mark.parametrize("source", ["statsfd", "published"])
def test_sources_that_look_into_processes_keep_two_capabilities_and_no_others(source: str, tmp_path: Path) -> None:
    found = dropped(source, tmp_path)
    mask = sum(1 << capability for capability in NEEDED[source])
    assert masks(found["status"]) == {"Inh": 0, "Prm": mask, "Eff": mask, "Bnd": 0, "Amb": 0}
    assert (found["root"], found["bpf"]) == (EPERM, EPERM)
    assert (found["read"], found["write"]) == (0, EACCES)


def test_kvm_is_out_of_reach_where_it_is_not_for_everybody(tmp_path: Path) -> None:
    kvm = Path("/dev/kvm")
    if not kvm.exists() or kvm.stat().st_mode & 0o006:
        pytest.skip("there is no /dev/kvm here that is kept from others")
    assert dropped("bpf", tmp_path)["kvm"] == EACCES


@pytest.mark.parametrize(("name", "text"), [("root", "is root"), ("no-such-user", "no user")])
def test_a_user_that_would_keep_privileges_is_refused(name: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        drop_privileges(name)
