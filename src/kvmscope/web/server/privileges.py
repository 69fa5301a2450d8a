"""Drops root privileges once the host is open, for good: an unprivileged user with the capabilities of the source.

Rule: call this before any other thread starts, as capabilities and the flags of prctl belong to a thread. Setting the
user ids also removes the capabilities of threads that exist already.

Source: capabilities(7), prctl(2), setresuid(2).
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from typing import Final

from ...errors import Unavailable, UsageError
from ...linux import libc
from ...linux.capabilities import Capability, effective_capabilities

USERS: Final = ("kvmscope", "nobody")
"""Default users of a server that root starts: the first that exists."""

_OF_PROCESSES: Final = frozenset({Capability.SYS_PTRACE, Capability.DAC_READ_SEARCH})
NEEDED: Final[Mapping[str, frozenset[Capability]]] = {
    "pinned": frozenset(),
    "bpf": frozenset(),
    "recording": frozenset(),
    "statsfd": _OF_PROCESSES,
    "published": _OF_PROCESSES,
}
"""The capabilities that a source needs for every read: the last two find files of other users' processes, and get or
open them.

Source: pidfd_getfd(2) and proc_pid_fd(5) require ptrace access; only the owner can read a directory /proc/PID/fd.
"""


def drop_privileges(user: str | None = None, *, keep: frozenset[Capability] = frozenset()) -> str | None:
    """Become ``user``, by default the first of ``USERS``; None if there was nothing to drop.

    ``keep``: capabilities to keep, if this process has them. Raises UsageError if there is no such user, Unavailable
    if the kernel refuses.
    """
    if os.geteuid() != 0:
        libc.forbid_new_privileges()
        return None
    entry = _user(user)
    mask = sum(1 << capability for capability in keep & effective_capabilities())
    try:
        libc.drop_bounding_set()
        if mask:
            libc.keep_permitted_capabilities()
        os.setgroups([])
        os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
        os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
        libc.set_capabilities(mask)
        libc.forbid_new_privileges()
    except OSError as error:
        raise Unavailable(f"privileges cannot be dropped: {error.strerror}", errno=error.errno) from error
    return entry.pw_name


def _user(name: str | None) -> pwd.struct_passwd:
    for each in USERS if name is None else (name,):
        try:
            entry = pwd.getpwnam(each)
        except KeyError:
            continue
        if entry.pw_uid == 0:
            raise UsageError(f"user {each} is root; name one without privileges")
        return entry
    raise UsageError(f"there is no user {name or USERS[-1]!r}")
