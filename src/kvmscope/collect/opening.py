"""Chooses a source and opens it. ``auto`` tries the sources, best first, and keeps why each better one was not used."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ..catalog.groups import load_groups
from ..errors import SourceError, Unavailable, UsageError
from ..linux.kvm import is_kvm_there
from ..linux.namespaces import is_sys_hidden
from ..sources.base import Source
from .live import Host


def _open_pinned(groups: Sequence[str] = ()) -> Source:
    from ..sources.bpf.source import PinnedSource

    return PinnedSource(groups=groups or None)


def _open_bpf(groups: Sequence[str] = ()) -> Source:
    from ..sources.bpf.source import BpfSource

    return BpfSource(groups)


def _open_statsfd() -> Source:
    from ..sources.statsfd import StatsFdSource

    source = StatsFdSource()
    try:
        source.check()
        if not is_kvm_there() and not is_sys_hidden():
            raise Unavailable(
                "KVM is not loaded, so no VMM can hold statistics fds", remedy="modprobe kvm_intel or kvm_amd"
            )
    except SourceError:
        source.close()
        raise
    return source


def _open_published() -> Source:
    from ..sources.published import PublishedSource

    return PublishedSource()


def _open_simulated() -> Source:
    """The published source if some simulated host is there to be read."""
    from ..sources.published import PublishedSource

    source = PublishedSource(simulated=True)
    if not len(source.read().vms):
        source.close()
        raise Unavailable("no simulated host is running", remedy="kvmscope lab simulate")
    return source


SOURCES: Mapping[str, Callable[[], Source]] = {
    "pinned": _open_pinned,
    "bpf": _open_bpf,
    "statsfd": _open_statsfd,
    "published": _open_published,
}
"""Every source by name."""

_NO_MORE_FILES = (errno.EMFILE, errno.ENFILE)

_BEST_FIRST: Mapping[str, Callable[[], Source]] = {
    "pinned": _open_pinned,
    "bpf": _open_bpf,
    "statsfd": _open_statsfd,
    "published": _open_simulated,
}
"""In the order of ``auto``: ``pinned`` sees what ``bpf`` sees and costs no loading; simulated numbers come last."""


def open_host(source: str = "auto", groups: Sequence[str] = ()) -> Host:
    """Open this host for reading by ``source``, or with ``auto`` by the best source that works.

    ``groups`` are opt-in groups of statistics, by their names in catalog/groups.toml. Source ``bpf`` has the kernel
    count them while this host is open; ``pinned`` has those that root has pinned, and reads them without being asked
    too. Raises UsageError for a source or group that does not exist, PermissionNeeded or Unavailable if it (or with
    ``auto`` every source) is not available.
    """
    if isinstance(groups, str):
        raise UsageError(f"groups: expected a list of names, found the text {groups!r}")
    if groups:
        return _open_with(groups, source)
    if source == "auto":
        return _open_best()
    if source not in SOURCES:
        raise UsageError(f"there is no source {source!r}; there are auto, {', '.join(SOURCES)}")
    return Host(SOURCES[source](), {})


def _open_with(groups: Sequence[str], source: str) -> Host:
    there = load_groups()
    for group in groups:
        if group not in there:
            raise UsageError(f"there is no group {group!r}; there are {', '.join(there)}")
    if source not in ("auto", "bpf", "pinned"):
        raise UsageError(f"groups are counted by the sources 'bpf' and 'pinned', not {source!r}")
    unpinned = [group for group in groups if not there[group].can_be_pinned]
    if source == "pinned" and unpinned:
        raise UsageError(f"group {unpinned[0]} is counted by the source 'bpf' alone")
    why_not: dict[str, SourceError] = {}
    if source != "bpf" and not unpinned:
        try:
            return Host(
                _open_pinned(groups), why_not, instead=None if source == "pinned" else partial(_open_bpf, groups)
            )
        except SourceError as error:
            if source == "pinned":
                raise
            why_not["pinned"] = error
    return Host(_open_bpf(groups), why_not)


def _open_best() -> Host:
    why_not: dict[str, SourceError] = {}
    for name, open_source in _BEST_FIRST.items():
        try:
            return Host(open_source(), why_not, instead=_open_bpf if name == "pinned" else None)
        except SourceError as error:
            if error.errno in _NO_MORE_FILES:
                raise  # the next source would see less, for want of files
            why_not[name] = error
    reasons = ";\n  ".join(f"{name}: {error.reason}" for name, error in why_not.items())
    remedies = dict.fromkeys(error.remedy for error in why_not.values() if error.remedy)
    raise Unavailable(f"no source works here:\n  {reasons}", remedy="\n       ".join(remedies))
