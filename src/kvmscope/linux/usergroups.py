"""Unix groups, from the name service."""

from __future__ import annotations

import difflib
import grp
import re

from ..errors import UsageError
from ..units import quoted

_FOR_KVM = "kvm"


def find_group(name: str | None) -> grp.struct_group:
    """A group by name or number; by default kvm, which distributions have for users of /dev/kvm, otherwise root's.

    Raises UsageError if there is no such group.
    """
    if name is None:
        try:
            return grp.getgrnam(_FOR_KVM)
        except KeyError:
            return grp.getgrgid(0)
    try:
        return grp.getgrgid(int(name)) if re.fullmatch(r"[0-9]{1,10}", name) else grp.getgrnam(name)
    except (KeyError, ValueError, OverflowError) as error:
        near = tuple(difflib.get_close_matches(name, [entry.gr_name for entry in grp.getgrall()], n=3))
        raise UsageError(f"there is no group {quoted(name)}", nearest=near) from error


def group_of(gid: int) -> grp.struct_group:
    """The group with this number; if it has no name, the number is its name."""
    try:
        return grp.getgrgid(gid)
    except KeyError:
        return grp.struct_group((str(gid), "x", gid, []))
