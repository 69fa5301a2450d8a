"""The command line: one file a command, loaded when it is used.

Commands say what they found on stdout and nothing else there; why something could not be had goes to stderr, and
``group`` turns errors into exit codes. Nothing here does arithmetic on statistics.
"""

from __future__ import annotations

import io
import sys

import click

from .group import KvmscopeGroup


@click.command("kvmscope", cls=KvmscopeGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kvmscope", message="%(prog)s %(version)s")
def main() -> None:
    """See inside KVM: every statistic of every VM and vCPU on this host.

    Without a command, the status of the host.
    """


def run() -> None:
    """Run the command line of this process; exits with DESIGN's codes."""
    # A name may have characters that the terminal's encoding has not; a screen with a "?" is better than none.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    main(prog_name="kvmscope")
