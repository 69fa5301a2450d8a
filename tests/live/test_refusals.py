"""A host that lacks what the BPF source needs: the reason and what would help, never a traceback or an empty answer.

Each lack is made real in a mount namespace of its own.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.needs("kvm", "bpf")]

INSIDE = """
from kvmscope.errors import SourceError
from kvmscope.sources.bpf.source import BpfSource
try:
    BpfSource()
except SourceError as error:
    print(type(error).__name__, "|", error.reason, "|", error.remedy)
"""


def open_where(preparation: str, *, before: str = "") -> list[str]:
    """What opening the source says after a shell has prepared its mount namespace: kind, reason, remedy."""
    script = f"set -e; mount --make-rprivate /; {preparation}; exec {before} {sys.executable} -c '{INSIDE}'"
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [part.strip() for part in done.stdout.split("|")]


def test_without_libbpf_it_says_what_to_install() -> None:
    hide = 'for f in $(ldconfig -p | sed -n "s/.*libbpf.so.1.*=> //p"); do mount --bind /dev/null "$f"; done'
    kind, reason, remedy = open_where(hide)
    assert kind == "Unavailable"
    assert "libbpf" in reason
    assert remedy == "apt install libbpf1"


def test_without_btf_it_names_the_kernel_option() -> None:
    kind, reason, remedy = open_where("mount -t tmpfs none /sys/kernel/btf")
    assert kind == "Unavailable"
    assert "BTF" in reason
    assert "CONFIG_DEBUG_INFO_BTF" in remedy


def test_without_the_device_it_says_that_the_kernel_has_kvm() -> None:
    kind, reason, remedy = open_where("mount -t tmpfs none /dev")
    assert kind == "Unavailable"
    assert "there is no /dev/kvm here, though the kernel has KVM" in reason
    assert "--device /dev/kvm" in remedy


def test_a_device_that_is_something_else_is_named_as_such() -> None:
    kind, reason, remedy = open_where("mount --bind /dev/null /dev/kvm")
    assert kind == "Unavailable"
    assert "is not KVM's device" in reason
    assert "5.14" not in remedy


def test_with_sys_hidden_it_says_so_and_asks_for_no_other_kernel() -> None:
    kind, reason, remedy = open_where("mount -t tmpfs none /sys")
    assert kind == "Unavailable"
    assert "/sys is hidden" in reason
    assert "CONFIG" not in remedy


@pytest.mark.needs("nobody")
def test_without_privilege_it_says_which_and_how_to_go_without() -> None:
    kind, reason, remedy = open_where("true", before="setpriv --reuid 65534 --regid 65534 --clear-groups")
    assert kind == "PermissionNeeded"
    assert "/dev/kvm" in reason
    assert "root" in remedy


@pytest.mark.needs("setpriv")
def test_with_kvm_but_without_bpf_it_names_the_capabilities() -> None:
    kind, reason, remedy = open_where("true", before="setpriv --bounding-set -sys_admin,-bpf,-perfmon")
    assert kind == "PermissionNeeded"
    assert "CAP_BPF" in reason
    assert "kvmscope attach" in remedy
    assert "run as root" not in remedy, "it is root"


def test_root_of_a_user_namespace_is_told_that_its_capabilities_do_not_count() -> None:
    kind, reason, remedy = open_where("true", before="unshare --user --map-root-user")
    assert kind == "PermissionNeeded"
    assert "user namespace" in reason or "/dev/kvm" in reason
    assert "run as root" not in remedy
