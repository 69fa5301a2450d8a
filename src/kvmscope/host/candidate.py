"""A process that may be a VMM, as recognisers of VMMs see it. What costs a system call is read when it is asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from ..linux import procfs

_MAX_FILE_NAME = 255


@dataclass(frozen=True)
class Candidate:
    """One process, and what it says of itself; all text is untrusted."""

    process: procfs.Process
    stat: procfs.ProcessStat
    argv: tuple[str, ...]

    @cached_property
    def program(self) -> str:
        """File name of the program by its command line, without what packagers wrap around it (NixOS)."""
        if not self.argv:
            return ""
        name = file_name(self.argv[0])
        wrapped = re.fullmatch(r"\.(.+)-wrapped", name)
        return wrapped[1] if wrapped else name

    @cached_property
    def programs(self) -> tuple[str, ...]:
        """What the program may be called: by its command line, by its executable, and by the process's own name.

        The command line can name anything (``exec -a``). The executable needs the right to ptrace the process. The
        kernel takes the process's name from the executable, and keeps 15 bytes of it.
        """
        executable = (self.process.executable() or "").removesuffix(" (deleted)")
        names = (self.program, file_name(executable).removeprefix(".").removesuffix("-wrapped"), self.stat.comm)
        return tuple(dict.fromkeys(filter(None, names)))

    @property
    def given_name(self) -> str | None:
        """The VM's name where that is what the command line calls the program: microvm.nix writes ``microvm@NAME``."""
        _, at, name = self.program.partition("microvm@")
        return name or None if at else None

    def is_called(self, pattern: re.Pattern[str]) -> bool:
        """Whether one of its names is all of ``pattern``."""
        return any(pattern.fullmatch(name) for name in self.programs)

    @cached_property
    def cgroups(self) -> str:
        """The paths of its cgroups, one a line."""
        return "\n".join(self.process.cgroups() or ())

    def mentions(self, text: str) -> bool:
        """Whether ``text`` stands somewhere in its command line."""
        return any(text in word for word in self.argv)

    def option(self, name: str) -> str | None:
        """The value of ``name VALUE`` or ``--name=VALUE``; None if absent or empty."""
        for i, word in enumerate(self.argv[1:], start=1):
            if word == name:
                return self.argv[i + 1] or None if i + 1 < len(self.argv) else None
            if name.startswith("--") and word.startswith(f"{name}="):
                return word[len(name) + 1 :] or None
        return None


@dataclass(frozen=True, slots=True)
class Recognised:
    """What was made of a candidate. ``known_as``, ``clue``: as in ``VmmProcess``."""

    vmm: str
    name: str | None = None
    uuid: str | None = None
    managed_by: str | None = None
    known_as: tuple[tuple[str, str], ...] = ()
    clue: str | None = None


def file_name(path: str) -> str:
    """The last part of a path."""
    return path.rpartition("/")[2][:_MAX_FILE_NAME]
