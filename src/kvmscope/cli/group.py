"""The ``kvmscope`` command itself: which commands there are, and what becomes of errors.

Commands are modules of this package and are imported when one of them is used, so that ``--help`` is quick.
Rule: whatever a command raises ends here, as one line of why, one of what to try, and DESIGN's exit code.
"""

from __future__ import annotations

import errno
import importlib
import os
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ..console import streams
from ..console.interrupts import Interruption
from ..errors import (
    CatalogError,
    FormatError,
    KvmscopeError,
    OutputError,
    QueryError,
    RecordingError,
    SourceError,
    Unavailable,
    UsageError,
)

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


@dataclass(frozen=True, slots=True)
class CommandPlace:
    """Where a command is (module of this package, and its name there), and its line in ``kvmscope --help``."""

    module: str
    name: str
    short_help: str


COMMANDS: Mapping[str, CommandPlace] = {
    "status": CommandPlace("status", "command", "The host in one screen: VMs, vCPUs and rates."),
    "top": CommandPlace("top", "command", "The host on a screen that stays open."),
    "read": CommandPlace("read", "command", "Raw values as the kernel has them."),
    "hist": CommandPlace("hist", "command", "A histogram with its buckets and quantiles."),
    "apicv": CommandPlace("apicv", "command", "Are interrupts accelerated, and if not, why?"),
    "doctor": CommandPlace("doctor", "command", "What is wrong, why it matters, and what to do."),
    "explain": CommandPlace("explain", "command", "What a stat, metric, rule or reason means here."),
    "list": CommandPlace("list", "command", "The stats that there are, or the VMs."),
    "record": CommandPlace("record", "command", "Record the host, to look back with the same commands."),
    "diff": CommandPlace("diff", "command", "What changed between two recordings or times, beyond noise."),
    "fleet": CommandPlace("fleet", "fleet", "The same questions over many hosts."),
    "serve": CommandPlace("serve", "command", "Metrics, API and page over HTTP."),
    "report": CommandPlace("report", "command", "A recording as one HTML file, as Markdown or as JSON."),
    "dump": CommandPlace("dump", "command", "Stats and metrics over time as CSV, JSON lines or OpenMetrics."),
    "sql": CommandPlace("sql", "command", "Ask recordings, or a fleet in ClickHouse, by SQL."),
    "snapshot": CommandPlace("snapshot", "command", "One file with what the commands show now, to attach to a report."),
    "replay": CommandPlace("replay", "command", "Step through a recording on the screen of status."),
    "episodes": CommandPlace("episodes", "command", "What was recorded around findings."),
    "check": CommandPlace("check", "command", "What can be read here, by which source, and why not the rest."),
    "schema": CommandPlace("schema", "schema", "Compare the stats of kernels."),
    "groups": CommandPlace("groups", "command", "Statistics that are off until asked for, and what they cost."),
    "govern": CommandPlace("govern", "govern", "Adapt a setting of this host by evidence, and undo it."),
    "attach": CommandPlace("attach", "command", "Let a group of users read without root."),
    "detach": CommandPlace("detach", "command", "Take away what attach left."),
    "demo": CommandPlace("demo", "command", "Try kvmscope on a few guests that come and go."),
    "lab": CommandPlace("lab", "lab", "Small guests that do a known number of things, to try kvmscope on."),
}
"""The commands in the order of ``--help``. The first is what ``kvmscope`` alone does."""

_DEFAULT = "status"
_OWN_OPTIONS = frozenset({"-h", "--help", "--version"})

_USAGE, _NO_SOURCE, _BAD_DATA, _NO_OUTPUT = 2, 3, 4, 5
_MOST_SHOWN = 400
_FILES_AT_LEAST = 64
_MORE_FILES = "a higher limit of open files, such as `ulimit -n 4096`"
_NO_MORE_FILES = (errno.EMFILE, errno.ENFILE)


class KvmscopeGroup(click.Group):
    """A group that loads its commands late, has a default one, and maps errors to exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        command = getattr(importlib.import_module(f"{__package__}.{place.module}"), place.name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.short_help) for name, place in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        names = [name for name in COMMANDS if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=COMMANDS[name].short_help) for name in names), *options]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not (args or ctx.resilient_parsing) or (args and args[0].startswith("-") and args[0] not in _OWN_OPTIONS):
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS:
            import difflib  # 3 ms of a start, in which words are as they should be

            near = difflib.get_close_matches(args[0], COMMANDS, n=2)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise click.UsageError(f"there is no command {args[0]!r}{hint}", ctx=ctx)
        return super().resolve_command(ctx, args)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """As click has it, but that errors become lines and exit codes here, whenever they are raised."""
        sys.exit(self.run(sys.argv[1:] if args is None else args, **extra))

    def run(self, args: Sequence[str], **extra: Any) -> int:
        """Do what the command line says, and write all that was to be written; gives the exit code."""
        exit_code = self._run(list(args), extra)
        try:
            sys.stdout.flush()
        except OutputError as error:
            return _end_with(error)
        return exit_code

    def _run(self, args: list[str], extra: dict[str, Any]) -> int:
        try:
            return self._invoke(args, extra)
        except click.ClickException as error:
            context = error.ctx if isinstance(error, click.UsageError) else None
            _say(_one_line(error.format_message()), f"{context.command_path if context else 'kvmscope'} --help")
            return error.exit_code
        except KvmscopeError as error:
            return _end_with(error)
        except OSError as error:
            if error.errno not in _NO_MORE_FILES:
                raise
            return _end_with(_no_more_files(error))
        except KeyboardInterrupt as error:
            streams.drop()
            return error.exit_code if isinstance(error, Interruption) else 130

    def _invoke(self, args: list[str], extra: dict[str, Any]) -> int:
        instruction = os.environ.get("_KVMSCOPE_COMPLETE")
        if instruction:
            from click.shell_completion import shell_complete

            return shell_complete(self, extra, "kvmscope", "_KVMSCOPE_COMPLETE", instruction)
        if not _OWN_OPTIONS & set(args):
            _require_room_for_files()
        try:
            with self.make_context("kvmscope", args, **extra) as ctx:
                self.invoke(ctx)
        except click.exceptions.Exit as exit_:
            return exit_.exit_code
        except SystemExit as exit_:
            return exit_.code if isinstance(exit_.code, int) else 0 if exit_.code is None else 1
        return 0


@click.command("kvmscope", cls=KvmscopeGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kvmscope", message="%(prog)s %(version)s")
def main() -> None:
    """See inside KVM: every statistic of every VM and vCPU on this host.

    Without a command, the status of the host.
    """


def _end_with(error: KvmscopeError) -> int:
    reason = _one_line(str(error)) if isinstance(error, UsageError) else str(error)
    if isinstance(error, QueryError) and error.excerpt:
        reason += "\n" + "\n".join(_one_line_as_it_is(line) for line in error.excerpt.splitlines())
    _say(reason, error.remedy if isinstance(error, SourceError) else "")
    return _exit_code(error)


def _exit_code(error: KvmscopeError) -> int:
    if isinstance(error, SourceError):
        return _NO_SOURCE
    if isinstance(error, OutputError):
        return _NO_OUTPUT
    return _BAD_DATA if isinstance(error, FormatError | CatalogError | RecordingError) else _USAGE


def _require_room_for_files() -> None:
    """Raises Unavailable if this process may have so few files open that some source would seem not to work.

    It takes as many as it may: reading by stats fds needs one for each vCPU.
    """
    limit, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != highest:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, highest))
    if highest != resource.RLIM_INFINITY and highest < _FILES_AT_LEAST:
        raise Unavailable(
            f"this process may have {highest} files open, and kvmscope needs up to {_FILES_AT_LEAST}",
            remedy=_MORE_FILES,
            errno=errno.EMFILE,
        )


def _no_more_files(error: OSError) -> SourceError:
    return Unavailable(
        f"no more files can be opened: {error.strerror}",
        remedy=_MORE_FILES,
        path=None if error.filename is None else os.fsdecode(error.filename),
        errno=error.errno,
    )


def _one_line(text: str) -> str:
    """What was typed may be anything; the message about it is a line."""
    from ..host.text import printable  # its tables take a millisecond, for which --help has no use

    return printable(" ".join(text.split()), max_length=_MOST_SHOWN)


def _one_line_as_it_is(text: str) -> str:
    """A line whose blanks count, as those before a mark do."""
    from ..host.text import printable

    return printable(text.replace("\t", " "), max_length=_MOST_SHOWN)


def _say(reason: str, remedy: str) -> None:
    click.echo(f"kvmscope: {reason}", err=True)
    if remedy:
        click.echo(f"  try: {remedy}", err=True)
