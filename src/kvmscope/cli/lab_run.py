"""``kvmscope lab run``: runs real guests that do one thing, and reports their work."""

from __future__ import annotations

import json
from typing import Any

import click

from ..errors import SourceError
from ..lab.spec import MAX_VCPUS, MAX_VMS, parse_ids
from ..terminal.echo import echo_lines, echo_notes
from .options import number_option, parse_with, time_option


@click.command("run")
@click.option("--workload", "-w", default="pio", show_default=True, help="What each guest does; --list lists them.")
@number_option("--vms", 1, MAX_VMS, default=1, help="VMs.")
@number_option("--vcpus", 1, MAX_VCPUS, default=1, help="vCPUs of each VM.")
@number_option("--count", 1, 10**18 - 1, help="End when each vCPU has done its work N times.")
@time_option("--for", "for_s", help="End after this time, such as 10s.")
@click.option("--name", default="", help="Name of the VMs, before their number.")
@click.option(
    "--vcpu-ids", callback=parse_with(parse_ids), metavar="ID,…", help="Ids of the vCPUs, instead of 0 to N-1."
)
@click.option("--irqchip", type=click.Choice(["full", "split", "none"]), help="Interrupt controllers in the kernel.")
@click.option("--pit", type=click.Choice(["off", "reinject", "discard"]), help="The PIT in the kernel.")
@number_option("--halt-poll-ns", 0, 2**32 - 1, metavar="NS", help="The VM's halt polling limit.")
@number_option("--period-us", 1, 50_000, default=1000, metavar="US", help="Time between timer interrupts.")
@click.option("--one-process", is_flag=True, help="All VMs in one process, instead of one each.")
@click.option("--hold-stats-fds", is_flag=True, help="Keep the stats fds open in the VMs' processes, as QEMU does.")
@click.option("--publish", "publishes", is_flag=True, help="Publish the VMM's own statistics, for --source published.")
@click.option("--stay", is_flag=True, help="Keep the VMs, idle, until Ctrl-C, so that their stats can be read.")
@click.option("--list", "wants_list", is_flag=True, help="List the workloads and exit.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON.")
def run(
    *,
    for_s: float | None,
    vcpu_ids: tuple[int, ...] | None,
    irqchip: str | None,
    pit: str | None,
    stay: bool,
    wants_list: bool,
    as_json: bool,
    **fields: Any,
) -> None:
    """Run real guests and report what each of them did.

    \b
    kvmscope lab run --vms 2 --vcpus 2 --workload halt --for 10s
    kvmscope lab run --workload msi --count 1000 --json
    """
    from ..lab.report_text import report_lines, workload_lines
    from ..lab.running import run_guests
    from ..lab.spec import LabSpec
    from ..lab.workloads import GuestIrqchip, GuestPit

    if wants_list:
        echo_lines(workload_lines())
        return
    spec = LabSpec(
        vcpu_ids=vcpu_ids or (),
        irqchip=GuestIrqchip(irqchip) if irqchip else None,
        pit=GuestPit(pit) if pit else None,
        **fields,
    )
    report = run_guests(
        spec,
        for_s,
        stays=stay,
        show=lambda report: echo_lines([json.dumps(report.to_json(), indent=2)] if as_json else report_lines(report)),
        note=lambda line: echo_notes([line]),
    )
    if report is not None and report.errors:
        raise SourceError("; ".join(report.errors))
