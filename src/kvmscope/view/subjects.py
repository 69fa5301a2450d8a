"""Resolves what a user typed to a VM, a vCPU and stats.

A VM is found by its name, its names in managers, its process id, its UUID, its opaque id, a prefix of the last two, or
a name as a screen cuts it (``NAM…``). ``VM/ID`` is one of its vCPUs.
Rule: a word that matches nothing, or several VMs, is a UsageError that lists similar names. Owners of VMs choose names,
so a name cannot hide another VM that the word also matches. A whole id always means its VM, as programs rely on that.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from ..errors import UsageError
from ..host.text import ELLIPSIS, printable
from ..sample import Sample, VmId
from ..scene import Scene
from .known_names import selecting_names
from .values import Moment, plain_name

_MIN_ID_PREFIX = 4
_SHOWN = 4
_LONGEST_TITLE = 10_000
_MAX_DIGITS = 20
"""Maximum number of digits in the id of a vCPU or process, which is below 2^64."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows of a sample: a VM, and one of its vCPUs, or None for the VM as a whole."""

    vm: int
    vcpu: int | None


@dataclass(frozen=True, slots=True)
class FollowedVm:
    """The selected VM or vCPU. A word found it once; after that, its id identifies it."""

    id: Annotated[VmId, "The VM."]
    name: Annotated[str, "Its name. Untrusted text."]
    vcpu: Annotated[int | None, "Id of its vCPU that was requested; null for all."]
    ended: Annotated[Moment | None, "When the first sample without it was read; null while it runs."] = None

    @property
    def title(self) -> str:
        """The printed name."""
        name = printable(self.name)
        return name if self.vcpu is None else f"{name}/{self.vcpu}"

    def locate(self, scene: Scene) -> Selection | None:
        """Its rows in a scene; None if it has ended."""
        sample = scene.sample
        for row in np.flatnonzero(sample.vms.id == np.uint64(self.id.value)).tolist():
            if self.vcpu is None:
                return Selection(row, None)
            rows = sample.vcpus_of_vm[row]
            ids: list[int] = sample.vcpus.id[rows].tolist()
            return Selection(row, int(rows.start) + ids.index(self.vcpu)) if self.vcpu in ids else None
        return None

    def has(self, vm: VmId, vcpu: int | None) -> bool:
        """Whether something that belongs to this VM and vCPU (None for the VM) is in the selection."""
        return vm == self.id and (self.vcpu is None or vcpu in (None, self.vcpu))


def follow(scene: Scene, text: str) -> FollowedVm:
    """The VM or vCPU that ``text`` names in a first scene. Raises UsageError."""
    return followed(scene, find_subject(scene, text))


def followed(scene: Scene, found: Selection) -> FollowedVm:
    """A selection in one scene, made fit to be located in later ones."""
    vcpu = None if found.vcpu is None else int(scene.sample.vcpus.id[found.vcpu])
    return FollowedVm(scene.sample.vms.vm_id(found.vm), scene.identities[found.vm].name, vcpu)


def find_subject(scene: Scene, text: str) -> Selection:
    """The VM or vCPU that ``text`` names. Raises UsageError."""
    found = match_subject(scene, text)
    if found is None:
        raise UsageError(f"there is no VM '{printable(text)}'", nearest=near_vms(scene, text))
    return found


def match_subject(scene: Scene, text: str) -> Selection | None:
    """The VM or vCPU that ``text`` names, None if no VM matches. Raises UsageError for a VM without that vCPU."""
    vm = _match_vm(scene, text)
    name, slash, vcpu = text.rpartition("/")
    if vm is not None:
        if slash:
            _refuse_vcpu(scene, text, vm)
        return Selection(vm, None)
    parent = _match_vm(scene, name) if slash else None
    return None if parent is None else Selection(parent, _find_vcpu(scene, parent, vcpu))


def near_vms(scene: Scene, text: str) -> tuple[str, ...]:
    """Names of VMs that are similar to ``text``."""
    return _near(text, _names(scene))


def vcpu_rows(sample: Sample, subject: Selection) -> range:
    """The rows of a subject's vCPUs in ``sample.vcpus``: the selected one, or all of the VM."""
    if subject.vcpu is not None:
        return range(subject.vcpu, subject.vcpu + 1)
    rows = sample.vcpus_of_vm[subject.vm]
    return range(rows.start, rows.stop)


def find_stats(names: Iterable[str], wanted: Sequence[str]) -> frozenset[str]:
    """The ``names`` that match ``wanted``, with ``*`` and ``?``. Raises UsageError if a pattern matches none."""
    every = list(dict.fromkeys(names))
    found: set[str] = set()
    for word in wanted:
        fitting = fnmatch.filter(every, word) if re.search(r"[*?\[]", word) else [n for n in every if n == word]
        if not fitting:
            raise UsageError(f"there is no stat '{printable(word)}' here", nearest=_near(word, every))
        found.update(fitting)
    return frozenset(found)


def _match_vm(scene: Scene, text: str) -> int | None:
    """The row of the VM that ``text`` names; None if there is none. Raises UsageError if there are several."""
    for rows in _candidates(scene, text):
        if len(rows) == 1:
            return rows[0]
        if rows:
            raise UsageError(f"'{printable(text)}' matches {len(rows)} VMs: {_choice(scene, text, rows)}")
    return None


def _refuse_vcpu(scene: Scene, text: str, vm: int) -> None:
    """Raises UsageError for a word that is the name of one VM and also a vCPU of another."""
    name, _, vcpu = text.rpartition("/")
    for parent in next(filter(None, _candidates(scene, name)), []):
        if _vcpu_row(scene, parent, vcpu) is not None:
            ids = f"{scene.sample.vms.vm_id(vm)}, {scene.sample.vms.vm_id(parent)}/{vcpu}"
            what = f"may be a VM, or a vCPU of {scene.title(parent)}"
            raise UsageError(f"'{printable(text)}' {what}; choose by id: {ids}")


def _choice(scene: Scene, text: str, rows: Sequence[int]) -> str:
    """The VMs by name, or by id if the name is the ambiguous text itself."""
    titles = [scene.title(row) for row in rows]
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    shown = ", ".join(titles[:_SHOWN]) + more
    if text not in (scene.identities[row].name for row in rows):
        return shown
    return f"{shown}; choose by id: {', '.join(str(scene.sample.vms.vm_id(row)) for row in rows[:_SHOWN])}{more}"


def _candidates(scene: Scene, text: str) -> Iterable[list[int]]:
    """The VMs that ``text`` may mean, by the most specific match first: whole id, whole name, part of a name or id."""
    rows = range(len(scene.sample.vms))
    yield [row for row in rows if text.lower() == str(scene.sample.vms.vm_id(row))]
    yield _of_moved_number(scene, text)
    yield [row for row in rows if _is_called(scene, row, text)]
    yield [row for row in rows if _is_one_of(scene, row, text)]
    if len(text) >= _MIN_ID_PREFIX:
        begins = text.lower()
        yield [row for row in rows if any(word.startswith(begins) for word in _ids(scene, row))]
    if text.endswith(ELLIPSIS) and text != ELLIPSIS:
        yield [row for row in rows if _whole_title(scene, row).startswith(text.removesuffix(ELLIPSIS))]


def _of_moved_number(scene: Scene, text: str) -> list[int]:
    """The VMs that ``NAME#N`` may mean if a VM has that very name, as it shifts the numbers of VMs named so."""
    base = re.fullmatch(r"(.+)#\d+", text)
    if base is None:
        return []
    rows = range(len(scene.sample.vms))
    twins = [row for row in rows if plain_name(scene, row) == base[1]]
    called_so = [row for row in rows if re.fullmatch(re.escape(base[1]) + r"#\d+", plain_name(scene, row))]
    return sorted({*twins, *called_so}) if len(twins) > 1 and called_so else []


def _whole_title(scene: Scene, row: int) -> str:
    """A VM's name as a wide screen shows it; narrow screens cut it and end it in ``…``."""
    return printable(scene.identities[row].name, max_length=_LONGEST_TITLE)


def _is_called(scene: Scene, row: int, text: str) -> bool:
    """Whether the text is a name, process id, UUID or id of the VM. One VM's name may be another's process id."""
    name = scene.identities[row].name
    is_pid = _is_number(text) and scene.pid(row) == int(text)
    is_known = text in selecting_names(scene.identities[row])
    return text in (name, printable(name)) or is_pid or is_known or text.lower() in _ids(scene, row)


def _is_one_of(scene: Scene, row: int, text: str) -> bool:
    """Whether the text is a name that several VMs have, of which this is one."""
    name = scene.identities[row].name
    return text == plain_name(scene, row) or re.fullmatch(re.escape(text) + r"#\d+", name) is not None


def _ids(scene: Scene, row: int) -> tuple[str, ...]:
    process = scene.identities[row].process
    uuid = process.uuid if process else None
    return (str(scene.sample.vms.vm_id(row)), *([uuid.lower()] if uuid else []))


def _find_vcpu(scene: Scene, vm: int, text: str) -> int:
    row = _vcpu_row(scene, vm, text)
    if row is not None:
        return row
    ids: list[int] = scene.sample.vcpus.id[scene.sample.vcpus_of_vm[vm]].tolist()
    there = ", ".join(map(str, ids[:8])) + (", …" if len(ids) > 8 else "")
    raise UsageError(f"{scene.title(vm)} has no vCPU '{printable(text)}'; it has {there or 'none'}")


def _vcpu_row(scene: Scene, vm: int, text: str) -> int | None:
    rows = scene.sample.vcpus_of_vm[vm]
    ids: list[int] = scene.sample.vcpus.id[rows].tolist()
    return int(rows.start) + ids.index(int(text)) if _is_number(text) and int(text) in ids else None


def _is_number(text: str) -> bool:
    """Whether the text is a number in ASCII digits, short enough for an id; other scripts have digits too."""
    return text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS


def _names(scene: Scene) -> list[str]:
    return [printable(identity.name) for identity in scene.identities]


def _near(word: str, names: Sequence[str]) -> tuple[str, ...]:
    import difflib  # takes 3 ms, which a start with correct words need not pay

    return tuple(difflib.get_close_matches(word, names, n=3, cutoff=0.5))
