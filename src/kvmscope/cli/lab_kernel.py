"""``kvmscope lab kernel``: run a command inside a stock kernel under emulation, with AVIC on or off.

stdout, stderr and the exit code are those of the command; a failure around it is an error of kvmscope.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..errors import UsageError
from .options import number_option, time_option


@click.command("kernel")
@click.option("--avic", type=click.Choice(["0", "1"]), default="1", show_default=True, help="AVIC off, or forced on.")
@click.option(
    "--module-param", "parameters", multiple=True, metavar="MODULE.NAME=VALUE", help="Set this module parameter too."
)
@number_option("--memory", 128, 1 << 20, default=1024, metavar="MB", help="Memory of the machine.")
@time_option("--timeout", "timeout_s", default="300s", help="Give up after this long.")
@click.option("--put", multiple=True, metavar="HOST:GUEST", help="Copy a file or directory into the machine.")
@click.option("--get", multiple=True, metavar="GUEST:HOST", help="Copy a file or directory out of the machine.")
@click.option("--fresh", is_flag=True, help="Use the newest packages instead of the cached ones.")
@click.option("--list", "wants_list", is_flag=True, help="List the kernels and exit.")
@click.argument("name", required=False)
@click.argument("command", nargs=-1)
def kernel(
    *,
    name: str | None,
    command: tuple[str, ...],
    avic: str,
    parameters: tuple[str, ...],
    memory: int,
    timeout_s: float,
    put: tuple[str, ...],
    get: tuple[str, ...],
    fresh: bool,
    wants_list: bool,
) -> None:
    """Boot the stock kernel NAME in software emulation and run COMMAND in it, as root, with this kvmscope inside.

    \b
    kvmscope lab kernel 6.12 -- kvmscope check
    kvmscope lab kernel 6.1 --put tests:/root/tests -- python3 -m pytest /root/tests/codec
    """
    from ..lab import kernels
    from ..lab.transfers import save, split_pair

    if wants_list:
        click.echo("\n".join(kernels.kernel_names()))
        return
    if name is None or not command:
        raise click.UsageError("name a kernel and, after --, a command; --list lists the kernels")
    wanted = dict(split_pair(text, "--get GUEST:HOST") for text in get)
    if fresh:
        kernels.prepare(name, fresh=True)
    result = kernels.run(
        name,
        command,
        avic=avic == "1",
        module_parameters=parameters,
        put={guest: Path(host) for host, guest in (split_pair(text, "--put HOST:GUEST") for text in put)},
        get=tuple(wanted),
        memory_mb=memory,
        timeout_s=timeout_s,
    )
    sys.stdout.write(result.stdout)
    sys.stderr.write(result.stderr)
    missing = [guest for guest, host in wanted.items() if not save(result.files, guest, Path(host))]
    if missing:
        raise UsageError(f"the machine has no {', '.join(missing)}; the command ended with {result.exit_code}")
    sys.exit(result.exit_code)


if __name__ == "__main__":
    kernel()
