"""``kvmscope lab fleet``: writes the recording of many simulated hosts, to try the commands of ``fleet``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from ..console.streams import writing_errors
from ..store.requirements import require_pyarrow
from .options import FilePath, interval_option, json_option, number_option

_MOST = 100_000


@click.command("fleet")
@click.argument("directory", type=FilePath(), metavar="DIR")
@number_option("--hosts", 1, _MOST, default=1000, help="Hosts; twelve kinds of them in turn.")
@number_option("--vms", 1, _MOST, default=20, help="VMs of each host.")
@number_option("--vcpus", 1, _MOST, default=8, help="vCPUs of each VM.")
@number_option("--samples", 4, _MOST, default=60, help="Samples of each host.")
@interval_option("10s", help="Time from one sample to the next.")
@number_option("--seed", 0, 2**32 - 1, default=0, help="Another seed gives another fleet.")
@json_option
def fleet(
    *, directory: Path, hosts: int, vms: int, vcpus: int, samples: int, interval: float, seed: int, as_json: bool
) -> None:
    """Write the recording of a simulated fleet to DIR, with known problems in it.

    DIR/answers.json lists them: rules of `kvmscope doctor`, and what inhibits APICv or AVIC. No rule fires on any other
    VM. The recording is marked as simulated, and is the same for the same options.

    \b
    kvmscope lab fleet /tmp/fleet --hosts 20
    kvmscope fleet doctor /tmp/fleet
    """
    require_pyarrow()
    from ..lab.fleet import write_fleet
    from ..lab.fleet_plan import FleetSize
    from ..view.text import counted

    with writing_errors():
        written = write_fleet(directory, FleetSize(hosts, vms, vcpus, samples, interval, seed))
    if as_json:
        click.echo(json.dumps({"format": "kvmscope/1", "simulated": True, **asdict(written)}))
        return
    click.echo(
        f"simulated: {counted(written.hosts, 'host')}, {counted(written.vms, 'VM')}, {counted(written.vcpus, 'vCPU')}, "
        f"{counted(written.samples, 'sample')} each\n"
        f"planted: {counted(written.planted, 'trouble')}, listed in {written.answers}"
    )
