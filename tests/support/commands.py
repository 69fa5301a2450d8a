"""The commands of kvmscope, for tests that hold of each."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import click


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Each command that is not a group of commands, and the words that name it."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        yield from leaves(below, (*path, name))


def vm_published_by(pid: int) -> str:
    """The id of the first VM of a simulated host: others that run may have VMs of the same names."""
    command = [sys.executable, "-m", "kvmscope", "read", "exits", "--json", "--source", "published"]
    answer = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    return next(str(vm["id"]) for vm in answer["vms"] if vm["pid"] == pid)
