"""``kvmscope govern polling``: adapts the host's halt polling limit while it runs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..console.interrupts import until_ended
from ..errors import UsageError
from ..terminal.echo import echo_answer, echo_notes
from .options import FilePath, interval_option, json_option, number_option, source_option, time_option
from .session import open_live_host

_LONGEST_NS = 10_000_000


@click.command("polling")
@number_option("--min", 0, _LONGEST_NS, default=10_000, metavar="NS", help="Lowest limit that it may set.")
@number_option("--max", 0, _LONGEST_NS, metavar="NS", help="Highest limit that it may set.  [default: the present one]")
@interval_option("2s", help="Length of an interval.")
@number_option("--patience", 1, 100, default=3, help="Consecutive intervals that must favour the same change.")
@time_option("--wakeup-p99", default="1ms", help="Wakeup latency (p99) above which it does not lower the limit.")
@click.option("--contract", type=FilePath(), metavar="FILE", help="An additional contract to check.")
@click.option("--dry-run", is_flag=True, help="Print what it would do, and change nothing.")
@source_option
@json_option
def polling(
    *,
    min: int,  # noqa: A002 - the option's name
    max: int | None,  # noqa: A002
    interval: float,
    patience: int,
    wakeup_p99: float,
    contract: Path | None,
    dry_run: bool,
    source: str,
    as_json: bool,
) -> None:
    """Adapt the host's halt polling limit (halt_poll_ns) to what its VMs gain from it, until Ctrl-C. Needs root.

    It lowers or raises the limit step by step, towards the one that frees most CPU time by KVM's histograms, and writes
    a line for each interval with its evidence. The previous limit is restored at the end, even if the process is
    killed. docs/howto/govern.md describes its assumptions, and your responsibility.

    \b
    sudo kvmscope govern polling --dry-run
    sudo kvmscope govern polling --min 20000 --wakeup-p99 500us
    """
    from ..analysis.governor import GovernorPlan
    from ..catalog.contracts import load_governor_contract, parse_contract
    from ..tasks.governing import check_contracts, govern, groups_to_count, poll_limit
    from ..tasks.kernels import read_text
    from ..view.governing import step_line

    contracts = [load_governor_contract()]
    if contract is not None:
        contracts.append(parse_contract(read_text(str(contract)), str(contract)))
    with open_live_host(source, groups_to_count()) as host:
        first = host.look()
        check_contracts(host, contracts, first)
        with until_ended(), poll_limit(is_dry_run=dry_run) as limit:
            begun_ns = limit.began_ns
            try:
                plan = GovernorPlan(begun_ns, min, begun_ns if max is None else max, patience, wakeup_p99_s=wakeup_p99)
            except ValueError as error:
                raise UsageError(f"{error}; it chooses among 0 and powers of two from 4096 on") from None
            end = "nothing is changed" if dry_run else "it is restored at the end"
            echo_notes([f"halt_poll_ns is {begun_ns}; {end}"])
            for step in govern(host.watch(interval, first=first), limit, plan, contracts, is_dry_run=dry_run):
                echo_answer(step, [step_line(step)], as_json=as_json, one_line=True)
                sys.stdout.flush()
