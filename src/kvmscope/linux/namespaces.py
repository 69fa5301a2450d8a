"""Whether the namespaces and mounts of this process hide parts of the host, as in a container.

Source: include/uapi/linux/nsfs.h (the initial pid namespace has a fixed inode number), proc(5) (hidepid, subset),
user_namespaces(7) (uid_map).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from .capabilities import Capability, effective_capabilities
from .files import PROC, SYS, read_text

SHARE_PIDS: Final = "share the host's pid namespace (docker run --pid=host, Kubernetes hostPID: true)"

_INITIAL_PID_NAMESPACE: Final = 0xEFFF_FFFC
_ALL_IDS: Final = ["0", "0", str(2**32 - 1)]
_HIDING: Final = frozenset({"hidepid=2", "hidepid=invisible", "hidepid=4", "hidepid=ptraceable", "subset=pid"})


def is_in_initial_pid_namespace(*, proc_root: str = PROC) -> bool | None:
    """Whether this process is in the host's pid namespace; None if that is unknown."""
    try:
        link = str(Path(f"{proc_root}/self/ns/pid").readlink())
    except OSError:
        return None
    return link == f"pid:[{_INITIAL_PID_NAMESPACE}]"


def is_in_user_namespace(*, proc_root: str = PROC) -> bool:
    """Whether this is not the initial user namespace, so capabilities count only within it. False if unknown."""
    text = read_text(f"{proc_root}/self/uid_map").value
    return text is not None and text.split() != _ALL_IDS


def why_processes_are_hidden(*, proc_root: str = PROC) -> tuple[str, str] | None:
    """Why /proc does not list every process of the host, and the remedy; None if there is no sign of that."""
    if not os.path.lexists(f"{proc_root}/self"):
        return f"no proc file system is mounted at {proc_root}", f"mount -t proc proc {proc_root}"
    if is_in_initial_pid_namespace(proc_root=proc_root) is False:
        return "processes outside this pid namespace (container) cannot be seen", SHARE_PIDS
    options = _mount_options(proc_root)
    if options & _HIDING and Capability.SYS_PTRACE not in effective_capabilities(proc_root=proc_root):
        named = ", ".join(sorted(options & _HIDING))
        return f"{proc_root} is mounted with {named}, which hides the processes of others", "needs CAP_SYS_PTRACE"
    return None


def is_sys_hidden(*, sys_root: str = SYS) -> bool:
    """Whether /sys is empty or not mounted, so a file missing there is not evidence."""
    return not Path(f"{sys_root}/kernel").is_dir()


def _mount_options(place: str) -> frozenset[str]:
    """The options of the last mount at ``place``."""
    found: frozenset[str] = frozenset()
    for line in (read_text(f"{PROC}/self/mountinfo").value or "").splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) > 5 and fields[4] == place:
            found = frozenset(fields[5].split(",")) | frozenset(after.split()[-1].split(","))
    return found
