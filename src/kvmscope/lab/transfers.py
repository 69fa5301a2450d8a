"""Files that go into an emulated machine and come back."""

from __future__ import annotations

from pathlib import Path

from ..errors import UsageError


def split_pair(text: str, form: str) -> tuple[str, str]:
    """Both sides of a colon. Raises UsageError, with the expected form, if there is none."""
    left, colon, right = text.partition(":")
    if not (left and colon and right):
        raise UsageError(f"{text!r} is not {form}")
    return left, right


def save(files: dict[str, bytes], guest: str, host: Path) -> bool:
    """Write a guest's file, or all files below a guest's directory, to this machine; False if there is none."""
    found = {path: data for path, data in files.items() if path == guest or path.startswith(guest.rstrip("/") + "/")}
    for path, data in found.items():
        target = host / path[len(guest) :].lstrip("/") if path != guest else host
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return bool(found)
