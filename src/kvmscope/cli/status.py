"""``kvmscope status``: the host in one screen, over a short window.

What the numbers are is in ``analysis.status``, what is wrong in ``analysis.findings``; here they are put beside names
and laid out for the width there is.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from .interrupts import until_ended
from .options import json_option, parse_duration, source_option
from .session import open_host, read_windows

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from ..analysis.evaluate import Evaluator
    from ..analysis.findings import Finding, Judgement
    from ..analysis.status import Status, VmStatus
    from ..catalog.metrics import Metric
    from ..collect import Host
    from ..host.facts import Machine
    from ..scene import Scene
    from ..view.judging import Examiner

_SORT_BY = "exits_per_s"
_VMS_SHOWN = 20
_WIDTH_OF_A_PIPE = 120
_NAME_MAX, _NAME_MAX_NARROW = 32, 20
_GAP = 2
_LINES_BESIDE_VMS = 8
_FINDINGS_SHOWN = 5


@click.command("status", short_help="The host in one screen: VMs, vCPUs and rates.")
@click.option(
    "--interval", callback=parse_duration, default="1s", show_default=True, metavar="TIME", help="Length of the window."
)
@click.option("--watch", "-w", is_flag=True, help="Show window after window, until Ctrl-C.")
@click.option("--all", "-a", "show_all", is_flag=True, help=f"Every VM, not only the {_VMS_SHOWN} busiest.")
@source_option
@json_option
def command(*, interval: float, watch: bool, show_all: bool, source: str, as_json: bool) -> None:
    """Show the host in one screen: VMs, vCPUs and rates over a short window.

    The VMs with the most exits come first. A rate of a VM is the sum over its vCPUs; "≥" says that some of them are
    not known. docs/commands.md explains the columns.
    """
    with open_host(source) as host:
        if not watch:
            _echo(glance(host, interval), as_json=as_json, show_all=show_all)
            return
        with until_ended():
            _watch(_views(host, interval), as_json=as_json, show_all=show_all)


@dataclass(frozen=True)
class View:
    """A window's values, whose they are, and what is to be said of them."""

    scene: Scene
    status: Status
    metrics: tuple[Metric, ...]
    judgement: Judgement | None = None

    @classmethod
    def of(cls, scene: Scene, evaluator: Evaluator, examiner: Examiner, judgement: Judgement) -> View:
        from ..analysis.status import summarize
        from ..view.judging import judge_scene

        metrics = tuple(examiner.metrics.values())
        verdicts = judge_scene(scene, evaluator.window)
        status = summarize(evaluator.window, metrics, verdicts, evaluator=evaluator)
        return cls(scene, status, metrics, judgement)

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self.judgement.findings if self.judgement else ()


def glance(host: Host, interval_s: float) -> View:
    """One window, read in two halves: a rule fires only if what it speaks of held in both."""
    from ..analysis.window import Window
    from ..view.judging import Examiner

    examiner = Examiner()
    (middle, first), (scene, second) = read_windows(host, interval_s / 2, count=2)
    examiner.update(middle, first)
    judgement = examiner.update(scene, second)
    whole = examiner.evaluator(scene, Window(first.previous, second.current))
    return View.of(scene, whole, examiner, judgement)


def _views(host: Host, interval_s: float) -> Iterator[View]:
    """Window after window; findings come with the second."""
    from ..view.judging import Examiner

    examiner = Examiner()
    for scene, window in read_windows(host, interval_s):
        evaluator = examiner.evaluator(scene, window)
        yield View.of(scene, evaluator, examiner, examiner.update(scene, window, evaluator))


def _echo(view: View, *, as_json: bool, show_all: bool) -> None:
    from ..view.jsonout import dump

    if as_json:
        click.echo(dump(to_json(view)))
    else:
        echo_screen(view, limit=_limit(show_all))


def echo_screen(view: View, *, limit: int = _VMS_SHOWN) -> None:
    """Write the screen: in colour and as wide as the terminal, plain and of a fixed width to anything else."""
    if not sys.stdout.isatty():
        click.echo(plain_text(view, width=_WIDTH_OF_A_PIPE, limit=limit))
        return
    from rich.console import Console

    console = Console()
    console.print(screen(view, width=console.width, limit=limit))


def _watch(views: Iterator[View], *, as_json: bool, show_all: bool) -> None:
    from ..view.jsonout import dump

    if as_json or not sys.stdout.isatty():
        for view in views:
            text = dump(to_json(view), one_line=True) if as_json else _block(view, show_all)
            click.echo(text)
            sys.stdout.flush()
        return
    from rich.console import Console
    from rich.live import Live

    console = Console()
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        for view in views:
            room = max(1, shutil.get_terminal_size().lines - _LINES_BESIDE_VMS)
            live.update(screen(view, width=console.width, limit=min(_limit(show_all), room)), refresh=True)


def _block(view: View, show_all: bool) -> str:
    return plain_text(view, width=_WIDTH_OF_A_PIPE, limit=_limit(show_all)) + "\n"


def _limit(show_all: bool) -> int:
    return sys.maxsize if show_all else _VMS_SHOWN


# --- JSON -------------------------------------------------------------------------------------------------------------


def to_json(view: View) -> dict[str, Any]:
    """DESIGN's ``status --json``."""
    from ..view import jsonout
    from .findings import finding_json

    return {
        **jsonout.head(view.scene),
        "interval_s": view.status.interval_s,
        "host": _host_json(view.scene.machine),
        "vms": [_vm_json(view.scene, vm) for vm in view.status.vms],
        "findings": [finding_json(finding, view.scene.identities[finding.vm_row].name) for finding in view.findings],
        "gaps": jsonout.gaps(view.scene.sample.gaps),
    }


def _host_json(machine: Machine) -> dict[str, Any]:
    vendor, cpu = machine.kvm_vendor.value, machine.cpu.value
    return {
        "name": machine.hostname.value,
        "kernel": machine.kernel_release.value,
        "architecture": machine.architecture.value,
        "kvm_module": vendor.name if vendor else None,
        "cpu": cpu.model if cpu else None,
        "lockdown": machine.lockdown.value,
    }


def _vm_json(scene: Scene, vm: VmStatus) -> dict[str, Any]:
    from ..view import jsonout

    return {
        **jsonout.vm(scene, vm.row),
        "metrics": dict(vm.metrics),
        "partial": sorted(vm.partial),
        "apicv": {
            "state": vm.apicv.state,
            "reasons": [{"name": r.name, "cause": r.cause, "remedy": r.remedy} for r in vm.apicv.reasons],
        },
        "vcpus": [
            {
                **jsonout.vcpu(scene.sample, vcpu.row),
                "metrics": dict(vcpu.metrics),
                "apicv_active": vcpu.apicv_active,
            }
            for vcpu in vm.vcpus
        ],
    }


# --- screen -----------------------------------------------------------------------------------------------------------


def plain_text(view: View, *, width: int, limit: int) -> str:
    """The screen without colours and without blanks at the ends of lines."""
    import io

    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=width, color_system=None, force_terminal=False).print(
        screen(view, width=width, limit=limit)
    )
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def screen(view: View, *, width: int, limit: int) -> RenderableType:
    """What a person sees, at most ``width`` columns wide and with at most ``limit`` VMs."""
    from rich.console import Group
    from rich.text import Text

    from ..analysis.status import busiest_first
    from ..view.text import NO_VM, SIMULATED

    parts: list[RenderableType] = []
    if view.scene.sample.simulated:
        parts.append(Text(SIMULATED, "bold reverse yellow"))
    parts += [_title(view), ""]
    if view.status.vms:
        shown = busiest_first(view.status, _SORT_BY)[:limit]
        parts += [_table(view, shown, width), "", *_findings(view, width)]
        notes = list(_notes(view, len(view.status.vms) - len(shown)))
    else:
        parts.append(Text(NO_VM.format(source=view.scene.sample.source)))
        notes = list(_notes(view, 0))
    parts += [Text(note, "dim") for note in notes]
    if str(parts[-1]) == "":
        parts.pop()
    return Group(*parts)


def _findings(view: View, width: int) -> Iterator[RenderableType]:
    """What is wrong, a line each and the worst first; `kvmscope doctor` has the rest."""
    from rich.text import Text

    from ..view.text import counted
    from .findings import summary

    if not view.findings:
        return
    for finding in view.findings[:_FINDINGS_SHOWN]:
        line = Text(summary(finding, view.scene.title(finding.vm_row, max_length=_NAME_MAX_NARROW)))
        line.stylize({"problem": "bold red", "warning": "yellow"}.get(finding.rule.severity.value, ""))
        line.truncate(width, overflow="ellipsis")
        yield line
    more = len(view.findings) - _FINDINGS_SHOWN
    rest = f"and {counted(more, 'finding')} more; " if more > 0 else ""
    yield Text(f"{rest}kvmscope doctor says why and what to do", "dim")
    yield Text("")


def _title(view: View) -> Text:
    from rich.text import Text

    from ..host.text import printable
    from ..units import format_seconds
    from ..view.text import counted

    machine = view.scene.machine
    vendor = machine.kvm_vendor.value
    sample = view.scene.sample
    parts = (
        printable(machine.hostname.value or "this host"),
        f"Linux {machine.kernel_release.value or '?'}",
        vendor.name if vendor else None,
        f"{counted(len(sample.vms), 'VM')}, {counted(len(sample.vcpus), 'vCPU')}",
        f"{format_seconds(view.status.interval_s)} by {sample.source}",
    )
    return Text(" · ".join(part for part in parts if part), "bold")


@dataclass(frozen=True)
class _Column:
    """One column: its head, a cell for each VM that is shown, and one for the total."""

    title: str
    cells: list[str]
    total: str
    is_text: bool = False

    @property
    def width(self) -> int:
        from ..view.text import cells

        return max(map(cells, (self.title, *self.cells, self.total)))


def _table(view: View, shown: Sequence[VmStatus], width: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    fitting = _fitting(view, shown, width)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for column in fitting:
        table.add_column(column.title, justify="left" if column.is_text else "right", no_wrap=True)
    for row in range(len(shown)):
        table.add_row(*(Text(column.cells[row], _style(column.cells[row])) for column in fitting))
    if len(view.status.vms) > 1:
        table.add_row(*(Text(column.total, "bold") for column in fitting))
    return table


def _fitting(view: View, shown: Sequence[VmStatus], width: int) -> list[_Column]:
    """The columns that ``width`` has room for; what matters most gets its place first."""
    scene = view.scene
    longest = _NAME_MAX if width >= 100 else _NAME_MAX_NARROW
    vcpus = [str(len(vm.vcpus)) for vm in shown]
    name = _Column("VM", [scene.title(vm.row, max_length=longest) for vm in shown], "total", is_text=True)
    vmm = _Column("VMM", [_vmm(scene, vm.row) for vm in shown], "", is_text=True)
    pid = _Column("PID", [_pid(scene, vm.row) for vm in shown], "")
    count = _Column("vCPUs", vcpus, str(len(scene.sample.vcpus)))
    on_screen = (metric for metric in view.metrics if metric.column)
    metrics = [_metric_column(view, shown, metric) for metric in on_screen if _is_known(view, metric)]
    apicv = [_apicv_column(shown)] if any(vm.apicv.state != "unknown" for vm in shown) else []
    by_importance = [name, count, *apicv, *metrics[:6], vmm, pid, *metrics[6:]]
    left = width
    chosen = []
    for column in by_importance:
        left -= column.width + _GAP
        if left < -_GAP:
            break
        chosen.append(column)
    return [column for column in (name, vmm, pid, count, *apicv, *metrics) if any(column is other for other in chosen)]


def _apicv_column(shown: Sequence[VmStatus]) -> _Column:
    """Whether interrupts are accelerated, or the reason why not; `kvmscope apicv` has the rest."""
    return _Column("APICv", [_apicv_cell(vm) for vm in shown], "", is_text=True)


def _apicv_cell(vm: VmStatus) -> str:
    from ..units import NOT_KNOWN_SIGN

    state, reasons = vm.apicv.state, vm.apicv.reasons
    if state == "inhibited":
        more = f" +{len(reasons) - 1}" if len(reasons) > 1 else ""
        return f"no: {reasons[0].name}{more}" if reasons else "not yet"
    words = {"active": "in part" if vm.apicv.is_partial else "yes", "unsupported": "none"}
    return words.get(state, NOT_KNOWN_SIGN)


def _metric_column(view: View, shown: Sequence[VmStatus], metric: Metric) -> _Column:
    from ..view.text import format_metric

    def cell(value: float | None, partial: bool) -> str:
        return format_metric(metric.unit, value, partial=partial)

    cells = [cell(vm.metrics[metric.name], metric.name in vm.partial) for vm in shown]
    total = cell(view.status.total[metric.name], metric.name in view.status.partial)
    return _Column(metric.title, cells, total)


def _is_known(view: View, metric: Metric) -> bool:
    """Whether this kernel has the metric; in a window where nothing is known yet all are shown."""
    total = view.status.total
    return total[metric.name] is not None or all(value is None for value in total.values())


def _vmm(scene: Scene, row: int) -> str:
    from ..host.text import printable
    from ..units import NOT_KNOWN_SIGN

    return printable(scene.vmm(row) or NOT_KNOWN_SIGN, max_length=16)


def _pid(scene: Scene, row: int) -> str:
    from ..units import NOT_KNOWN_SIGN

    pid = scene.pid(row)
    return NOT_KNOWN_SIGN if pid is None else str(pid)


def _style(cell: str) -> str:
    return "dim" if cell in ("0", "0 %", "–") else ""


def _notes(view: View, hidden: int) -> Iterator[str]:
    from ..view.text import counted, gap_lines

    status = view.status
    if hidden:
        yield f"… and {counted(hidden, 'VM')} with fewer exits; --all shows them"
    if any(vm.partial for vm in status.vms):
        yield "≥: without vCPUs that are not known"
    if status.vms_came or status.vms_gone:
        came = f"{counted(status.vms_came, 'VM')} came" if status.vms_came else ""
        gone = f"{counted(status.vms_gone, 'VM')} ended" if status.vms_gone else ""
        later = "; new VMs have rates from the next on" if came else ""
        yield f"{' and '.join(filter(None, (came, gone)))} in this window{later}"
    if status.stats_reset:
        yield f"cleared in the kernel, so without a rate in this window: {counted(status.stats_reset, 'stat')}"
    yield from gap_lines(view.scene.sample.gaps)
