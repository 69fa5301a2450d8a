"""``kvmscope lab simulate``: a simulated host, for machines without KVM. It runs for a given time or until Ctrl-C."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ..console.interrupts import until_ended
from ..lab.simulate import DEFAULT_VCPUS, DEFAULT_VMS
from .options import number_option, time_option

if TYPE_CHECKING:
    from ..lab.simulate import Simulated

_MOST = 10**9
"""Limit of the numbers of VMs and of vCPUs per VM; the simulated host has lower limits."""


@click.command("simulate")
@number_option("--vms", 1, _MOST, default=DEFAULT_VMS, help="Number of VMs; each behaves differently.")
@number_option("--vcpus", 1, _MOST, default=DEFAULT_VCPUS, help="vCPUs of each VM.")
@number_option("--seed", 0, 2**32 - 1, default=0, help="Another seed gives another host.")
@time_option("--for", "for_s", help="End after this time, such as 30s.")
@click.option("--json", "as_json", is_flag=True, help="Say what runs as JSON.")
def simulate(*, vms: int, vcpus: int, seed: int, for_s: float | None, as_json: bool) -> None:
    """Publish a simulated host, to try kvmscope on a machine without KVM.

    Every screen that shows it says that it is simulated.

    \b
    kvmscope lab simulate --vms 9 --for 10m &
    kvmscope status --source published
    """
    from ..lab.simulate import SimulatedHost, raise_fd_limit

    raise_fd_limit()
    with until_ended(), SimulatedHost(vms=vms, vcpus=vcpus, seed=seed) as host:
        _echo(host.about(), as_json=as_json)
        host.run_for(for_s)


def _echo(about: Simulated, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"format": "kvmscope/1", "simulated": True, **asdict(about)}))
        return
    from ..view.text import counted

    click.echo(f"simulated: {', '.join(about.vms)}; {counted(about.vcpus, 'vCPU')}, process {about.pid}")
    click.echo("read it with: kvmscope status --source published", err=True)
