"""``kvmscope schema check``: whether kernels have the stats that a program relies on."""

from __future__ import annotations

import sys

import click

from ..terminal.echo import echo_answer, wrapped
from .options import json_option


@click.command("check")
@click.argument("contract")
@click.argument("kernels", metavar="[KERNEL…]", nargs=-1)
@click.option("--stated", is_flag=True, help="Check only the kernels that the contract states; needs no KVM.")
@json_option
def check(*, contract: str, kernels: tuple[str, ...], stated: bool, as_json: bool) -> None:
    """Check CONTRACT, a TOML file of the stats that a program relies on, on this kernel and all kernels that it states.

    If any KERNEL is named, those are checked instead: `here`, a file of `kvmscope schema dump`, or one that is known by
    name. Exits with 1 if the contract breaks on any.

    \b
    kvmscope schema check contract.toml               # here, and on all kernels that it states
    kvmscope schema check contract.toml --stated      # on a machine without KVM
    kvmscope schema check contract.toml 5.14 arm64-7.3
    """
    from ..analysis.contract import judge, notes
    from ..catalog.contracts import parse_contract
    from ..catalog.stats import load_stats
    from ..tasks.kernels import HERE, read_kernel, read_text
    from ..view.contract import TEXT_INDENT, contract_lines, contract_view

    if stated and kernels:
        raise click.UsageError("--stated takes the kernels from the contract; name none")
    terms = parse_contract(read_text(contract), contract)
    asked = [read_kernel(name) for name in kernels or ([] if stated else [HERE])]
    if stated and terms.kernels is None:
        raise click.UsageError(f"{contract} states no kernels")
    under = [*asked, *(() if kernels else terms.stated())]
    stats = load_stats()
    view = contract_view(terms, [judge(terms, kernel, stats) for kernel in under], notes(terms, under, stats))
    echo_answer(view, wrapped(contract_lines(view, stats=len(terms.promises)), indent=TEXT_INDENT), as_json=as_json)
    sys.exit(0 if all(kernel.holds for kernel in view.kernels) else 1)
