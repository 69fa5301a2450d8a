"""How many files this process may have open: it takes all that it may, and where these are too few an error says so."""

from __future__ import annotations

import errno
import os
import resource

from ..errors import SourceError, Unavailable

_AT_LEAST = 64
_REMEDY = "a higher limit of open files, such as `ulimit -n 4096`"


def require_open_files() -> None:
    """Take as many as this process may have: reading by stats fds needs one for each vCPU.

    Raises Unavailable if these are so few that some source would seem not to work.
    """
    limit, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != highest:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, highest))
    if highest != resource.RLIM_INFINITY and highest < _AT_LEAST:
        raise Unavailable(
            f"this process may have {highest} files open, and kvmscope needs up to {_AT_LEAST}",
            remedy=_REMEDY,
            errno=errno.EMFILE,
        )


def is_exhausted(error: OSError) -> bool:
    """Whether it says that no more files can be opened."""
    return error.errno in (errno.EMFILE, errno.ENFILE)


def exhausted(error: OSError) -> SourceError:
    """The error to show for such an OSError."""
    return Unavailable(
        f"no more files can be opened: {error.strerror}",
        remedy=_REMEDY,
        path=None if error.filename is None else os.fsdecode(error.filename),
        errno=error.errno,
    )
