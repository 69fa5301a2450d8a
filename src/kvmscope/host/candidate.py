"""A process that may be a VMM, as the input of recognisers. Properties that need a system call are read on demand."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from ..linux import procfs

_MAX_FILE_NAME = 255


@dataclass(frozen=True)
class Candidate:
    """One process and its description of itself; all text is untrusted."""

    process: procfs.Process
    stat: procfs.ProcessStat
    argv: tuple[str, ...]

    @cached_property
    def program(self) -> str:
        """File name of the program from its command line, without the wrapper names of packagers (NixOS)."""
        if not self.argv:
            return ""
        name = file_name(self.argv[0])
        wrapped = re.fullmatch(r"\.(.+)-wrapped", name)
        return wrapped[1] if wrapped else name

    @cached_property
    def programs(self) -> tuple[str, ...]:
        """The possible names of the program: from its command line, from its executable, and the process's own name.

        The command line can name anything (``exec -a``). Reading the executable needs the right to ptrace the process.
        The kernel takes the process's name from the executable, and keeps 15 bytes of it.
        """
        executable = (self.process.executable() or "").removesuffix(" (deleted)")
        names = (self.program, file_name(executable).removeprefix(".").removesuffix("-wrapped"), self.stat.comm)
        return tuple(dict.fromkeys(filter(None, names)))

    @property
    def given_name(self) -> str | None:
        """The VM's name, if the command line has it as the program's: microvm.nix writes ``microvm@NAME``."""
        _, at, name = self.program.partition("microvm@")
        return name or None if at else None

    def is_called(self, pattern: re.Pattern[str]) -> bool:
        """Whether ``pattern`` matches all of one of its names."""
        return any(pattern.fullmatch(name) for name in self.programs)

    @cached_property
    def cgroups(self) -> str:
        """The paths of its cgroups, one per line."""
        return "\n".join(self.process.cgroups() or ())

    def mentions(self, text: str) -> bool:
        """Whether its command line contains ``text``."""
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
    """The result of a recogniser. ``known_as``, ``clue``: as in ``VmmProcess``."""

    vmm: str
    name: str | None = None
    uuid: str | None = None
    managed_by: str | None = None
    known_as: tuple[tuple[str, str], ...] = ()
    clue: str | None = None


def file_name(path: str) -> str:
    """The last part of a path."""
    return path.rpartition("/")[2][:_MAX_FILE_NAME]
