"""Giving up root once the host is open: an unprivileged user with what the source needs, and no way back.

Rule: called before any other thread is started, as capabilities and the flags of prctl are those of a thread. Setting
the user ids takes the capabilities of threads that exist already, too.

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
"""Who the server runs as if it was started by root and no user is named: the first that there is."""

_OF_PROCESSES: Final = frozenset({Capability.SYS_PTRACE, Capability.DAC_READ_SEARCH})
NEEDED: Final[Mapping[str, frozenset[Capability]]] = {
    "pinned": frozenset(),
    "bpf": frozenset(),
    "recording": frozenset(),
    "statsfd": _OF_PROCESSES,
    "published": _OF_PROCESSES,
}
"""What a source needs for every read: the last two look for files in other users' processes, and take or open them.

Source: pidfd_getfd(2) and proc_pid_fd(5) ask for ptrace access; a directory /proc/PID/fd is its owner's alone.
"""


def drop_privileges(user: str | None = None, *, keep: frozenset[Capability] = frozenset()) -> str | None:
    """Become ``user``, by default the first of ``USERS``; None if there was nothing to drop.

    ``keep``: capabilities that stay, of those that there are. Raises UsageError if there is no such user, Unavailable
    if the kernel does not let go.
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
