"""The errors that kvmscope raises, by cause.

    KvmscopeError
    ├── UsageError          the caller asked for something that does not exist
    │   └── QueryError          a query cannot be run as typed
    ├── FormatError         bytes break their format (the producer's fault)
    ├── CatalogError        a file of the catalogue, or one of a user's, is invalid (its writer's fault)
    ├── OutputError         the output of a command could not be written in full
    ├── RecordingError      a recording is damaged, or is not a recording (its writer's or its disk's fault)
    └── SourceError         the kernel or a VMM refused
        ├── Unavailable         this host cannot provide the data, and why
        ├── Busy                it can, but other readers are in the way
        └── PermissionNeeded    it can, but not to this user

Each carries its evidence as attributes and a stable ``slug``, which is a heading in docs/reference/messages.md.
A VM that dies while it is read is not an error: it is a ``Gap`` in the sample.
"""

from __future__ import annotations

from typing import ClassVar


class KvmscopeError(Exception):
    """Base of everything that kvmscope raises on purpose."""

    slug: ClassVar[str] = "error"


class UsageError(KvmscopeError):
    """The caller named a VM, stat, source or option that does not exist."""

    slug = "usage"

    def __init__(self, message: str, *, nearest: tuple[str, ...] = ()) -> None:
        self.nearest = tuple(dict.fromkeys(nearest))
        hint = f"; did you mean {', '.join(self.nearest)}?" if nearest else ""
        super().__init__(message + hint)


class QueryError(UsageError):
    """A query cannot be run as typed: a syntax error, an unknown name, or a statement that does more than read.

    ``line`` and ``column`` count from 1, and are None if the engine does not report them; ``excerpt`` is the line of
    the query with a mark under the place, or empty.
    """

    slug = "query"

    def __init__(self, reason: str, *, query: str = "", offset: int | None = None) -> None:
        self.reason = reason
        self.line = self.column = None
        self.excerpt = ""
        if offset is not None and 0 <= offset <= len(query):
            before = query[:offset]
            self.line = before.count("\n") + 1
            self.column = offset - (before.rfind("\n") + 1) + 1
            self.excerpt = mark(query, offset)
        place = f"line {self.line}, column {self.column}: " if self.line else ""
        super().__init__(f"{place}{reason}")


class FormatError(KvmscopeError):
    """Bytes break the format in which they should be."""

    slug = "format"

    def __init__(self, what: str, *, offset: int, expected: str, got: str) -> None:
        super().__init__(f"{what} at byte {offset}: expected {expected}, got {got}")
        self.what = what
        self.offset = offset
        self.expected = expected
        self.got = got


class CatalogError(KvmscopeError):
    """A text written by people is invalid: a file of the catalogue, a formula, a contract, a schema file.

    ``line`` and, where it is known, ``column`` count from 1; ``what`` is the part of the file that is wrong.
    ``excerpt`` is the text with a mark under the place, or empty.
    """

    slug = "catalog"

    def __init__(
        self,
        what: str,
        *,
        file: str,
        line: int,
        expected: str,
        found: str,
        column: int | None = None,
        excerpt: str = "",
    ) -> None:
        place = f"{file}:{line}" if column is None else f"{file}:{line}:{column}"
        subject = f"{what}: " if what else ""
        super().__init__(f"{place}: {subject}expected {expected}, found {found}" + (excerpt and f"\n{excerpt}"))
        self.what = what
        self.file = file
        self.line = line
        self.column = column
        self.expected = expected
        self.found = found
        self.excerpt = excerpt


def mark(text: str, offset: int) -> str:
    """The line of ``text`` that contains character ``offset``, with a mark under the character."""
    start = text.rfind("\n", 0, offset) + 1
    line = text[start:].split("\n", 1)[0]
    # Tabs are kept, so the mark is under its place at any tab width.
    blank = "".join(char if char == "\t" else " " for char in line[: offset - start])
    return f"    {line.rstrip()}\n    {blank}^"


class OutputError(KvmscopeError):
    """The output could not be written in full: the disk is full, or stdout is closed. Only commands raise it."""

    slug = "output"

    def __init__(self, reason: str, errno: int) -> None:
        super().__init__(f"the output could not be written: {reason}")
        self.errno = errno


class RecordingError(KvmscopeError):
    """A recording cannot be read; ``path`` is the file or directory, ``offset`` the byte of the damage, or None."""

    slug = "recording"

    def __init__(self, reason: str, *, path: str, offset: int | None = None) -> None:
        place = path if offset is None else f"{path}, byte {offset}"
        super().__init__(f"{place}: {reason}")
        self.reason = reason
        self.path = path
        self.offset = offset


class SourceError(KvmscopeError):
    """The kernel or a VMM refused; ``path`` is what was opened and ``errno`` the error (None if there was none)."""

    slug = "source"

    def __init__(self, reason: str, *, remedy: str = "", path: str | None = None, errno: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
        self.path = path
        self.errno = errno


class Unavailable(SourceError):
    """This host cannot provide the data; ``reason`` says why and ``remedy`` what would help."""

    slug = "unavailable"


class Busy(SourceError):
    """Other readers kept the source busy until the time limit."""

    slug = "busy"


class PermissionNeeded(SourceError):
    """The host could provide the data, but not to this user."""

    slug = "permission"
