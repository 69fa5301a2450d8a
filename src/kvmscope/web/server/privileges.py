"""Giving up root once the host is open: an unprivileged user, no capability, and no way back to one.

Rule: called before any other thread is started, as capabilities and the flags of prctl are those of a thread. Setting
the user ids takes the capabilities of threads that exist already, too.

Source: capabilities(7), prctl(2), setresuid(2).
"""

from __future__ import annotations

import os
import pwd
from typing import Final

from ...errors import Unavailable, UsageError
from ...linux import libc

USERS: Final = ("kvmscope", "nobody")
"""Who the server runs as if it was started by root and no user is named: the first that there is."""


def drop_privileges(user: str | None = None) -> str | None:
    """Become ``user``, by default the first of ``USERS``, without any capability; None if there was nothing to drop.

    Raises UsageError if there is no such user, Unavailable if the kernel does not let go.
    """
    if os.geteuid() != 0:
        libc.forbid_new_privileges()
        return None
    entry = _user(user)
    try:
        libc.drop_bounding_set()
        os.setgroups([])
        os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
        os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
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
