"""The place where the iterator is attached, and why it cannot be read there; its contents are in ``pins``.

Rule: this imports little, since nearly every command looks here first and usually finds nothing.
"""

from __future__ import annotations

import errno
import grp
import os
from pathlib import Path

from ...codec.snapshot import VERSION
from ...errors import PermissionNeeded, SourceError, Unavailable

ROOT = Path("/run/kvmscope")


def directory_in(root: Path) -> Path:
    """The directory of this version's pins."""
    return root / f"v{VERSION}"


def require_attached(root: Path = ROOT) -> None:
    """Raises Unavailable if nothing is attached, PermissionNeeded if this user may not enter."""
    os.close(open_directory(root))


def open_directory(root: Path) -> int:
    """An fd of the directory of this version's pins. Raises Unavailable, PermissionNeeded."""
    directory = directory_in(root)
    try:
        return os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise explain(error, directory) from error


def explain(error: OSError, directory: Path, *, gone: str = "nothing is attached") -> SourceError:
    if error.errno in (errno.EACCES, errno.EPERM):
        return PermissionNeeded(
            f"this user may not read {directory}",
            remedy=f"join its group ({_group_of(directory)}), or as root: kvmscope attach --readers GROUP",
            path=str(directory),
            errno=error.errno,
        )
    if error.errno == errno.ENOENT:
        other = sorted(path.name for path in directory.parent.glob("v*"))
        what = f"the attached iterator is of another version ({', '.join(other)})" if other else gone
        return Unavailable(what, remedy="as root: kvmscope attach", path=str(directory), errno=error.errno)
    return Unavailable(f"{directory}: {error.strerror}", path=str(directory), errno=error.errno)


def _group_of(directory: Path) -> str:
    """The group's name, or its number if it has none."""
    try:
        number = directory.stat().st_gid
    except OSError:
        return "unknown"
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
