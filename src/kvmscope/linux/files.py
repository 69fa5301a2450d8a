"""Small text files of /proc and /sys as facts: the text, or the path and the kernel's error as the reason."""

from __future__ import annotations

from pathlib import Path

from .facts import Fact

PROC = "/proc"
SYS = "/sys"


def read_text(path: str) -> Fact[str]:
    """The whole of a file, bytes that are not UTF-8 as ``\\xff``."""
    try:
        return Fact(Path(path).read_bytes().decode("utf-8", "backslashreplace"))
    except OSError as error:
        return Fact.unknown(reason_of(error))


def read_line(path: str) -> Fact[str]:
    """The same, without the space around it."""
    text = read_text(path)
    return text if text.value is None else Fact(text.value.strip())


def reason_of(error: OSError) -> str:
    """Path and error, for a fact that cannot be had."""
    return f"{error.filename}: {error.strerror}"
