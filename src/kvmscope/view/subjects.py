"""Which VM, vCPU and stats a person means by what they typed.

A VM goes by its name, its process id, its opaque id or the beginning of that; ``VM/ID`` is one of its vCPUs.
Rule: a word that fits nothing, or several, is a UsageError that lists what is near.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import UsageError
from ..host.text import printable
from ..scene import Scene

_MIN_ID_PREFIX = 4
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows of a sample: a VM, and one of its vCPUs or None for the VM as a whole."""

    vm: int
    vcpu: int | None


def find_subject(scene: Scene, text: str) -> Selection:
    """The VM or vCPU that ``text`` names. Raises UsageError."""
    found = match_subject(scene, text)
    if found is None:
        raise UsageError(f"there is no VM '{printable(text)}'", nearest=_near(text, _names(scene)))
    return found


def match_subject(scene: Scene, text: str) -> Selection | None:
    """The VM or vCPU that ``text`` names, None if no VM is called so. Raises UsageError for a VM without that vCPU."""
    vm = _match_vm(scene, text)
    if vm is not None:
        return Selection(vm, None)
    name, slash, vcpu = text.rpartition("/")
    vm = _match_vm(scene, name) if slash else None
    return None if vm is None else Selection(vm, _find_vcpu(scene, vm, vcpu))


def find_stats(names: Iterable[str], wanted: Sequence[str]) -> frozenset[str]:
    """Those of ``names`` that are wanted; ``*`` and ``?`` stand for characters. Raises UsageError if one fits none."""
    every = list(dict.fromkeys(names))
    found: set[str] = set()
    for word in wanted:
        fitting = fnmatch.filter(every, word) if re.search(r"[*?\[]", word) else [n for n in every if n == word]
        if not fitting:
            raise UsageError(f"there is no stat '{printable(word)}' here", nearest=_near(word, every))
        found.update(fitting)
    return frozenset(found)


def _match_vm(scene: Scene, text: str) -> int | None:
    """The VM called ``text``; None if there is none, UsageError if there are several."""
    for rows in _candidates(scene, text):
        if len(rows) == 1:
            return rows[0]
        if rows:
            shown = ", ".join(scene.title(row) for row in rows[:_SHOWN])
            more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
            raise UsageError(f"'{printable(text)}' may be any of {len(rows)} VMs: {shown}{more}")
    return None


def _candidates(scene: Scene, text: str) -> Iterable[list[int]]:
    """The VMs that ``text`` may mean, the surest way of saying it first."""
    rows = range(len(scene.sample.vms))
    names = [identity.name for identity in scene.identities]
    yield [row for row in rows if names[row] == text]
    yield [row for row in rows if printable(names[row]) == text]
    yield [row for row in rows if re.fullmatch(re.escape(text) + r"#\d+", names[row])]
    if text.isdecimal():
        yield [row for row in rows if scene.pid(row) == int(text)]
    if len(text) >= _MIN_ID_PREFIX:
        yield [row for row in rows if str(scene.sample.vms.vm_id(row)).startswith(text.lower())]


def _find_vcpu(scene: Scene, vm: int, text: str) -> int:
    rows = scene.sample.vcpus_of_vm[vm]
    ids: list[int] = scene.sample.vcpus.id[rows].tolist()
    if text.isdecimal() and int(text) in ids:
        return int(rows.start) + ids.index(int(text))
    there = ", ".join(map(str, ids[:8])) + (", …" if len(ids) > 8 else "")
    raise UsageError(f"{scene.title(vm)} has no vCPU '{printable(text)}'; it has {there or 'none'}")


def _names(scene: Scene) -> list[str]:
    return [printable(identity.name) for identity in scene.identities]


def _near(word: str, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(difflib.get_close_matches(word, names, n=3, cutoff=0.5))
