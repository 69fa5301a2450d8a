"""Small text files of /proc and /sys as facts: the text, or the path and the kernel's error as the reason."""

from __future__ import annotations

from pathlib import Path

from .facts import Fact

PROC = "/proc"
SYS = "/sys"


def read_text(path: str) -> Fact[str]:
    """The text of a whole file, bytes that are not UTF-8 as ``\\xff``."""
    try:
        return Fact(Path(path).read_bytes().decode("utf-8", "backslashreplace"))
    except OSError as error:
        return Fact.unknown(reason_of(error))


def read_line(path: str) -> Fact[str]:
    """The text of a whole file, without surrounding white space."""
    text = read_text(path)
    return text if text.value is None else Fact(text.value.strip())


def reason_of(error: OSError) -> str:
    """Path and error, as the reason of an unavailable fact."""
    return f"{error.filename}: {error.strerror}"
