"""``kvmscope schema check``: whether kernels have the stats that a program relies on."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from .options import json_option

if TYPE_CHECKING:
    from ..analysis.contract import Breach, Note, Verdict
    from ..catalog.contracts import Contract
    from ..schema import KernelTables

_INDENT = 6


@click.command("check")
@click.argument("contract")
@click.argument("kernels", metavar="[KERNEL…]", nargs=-1)
@click.option("--stated", is_flag=True, help="Only the kernels that the contract states: needs no KVM.")
@json_option
def check(*, contract: str, kernels: tuple[str, ...], stated: bool, as_json: bool) -> None:
    """Hold CONTRACT, the TOML file of what a program relies on, to this kernel and to all kernels that it states.

    Each KERNEL, if any is named, is held to it instead: `here`, a file of `kvmscope schema dump`, or one that is known
    by name. Exits with 1 if the contract breaks on any.

    \b
    kvmscope schema check contract.toml               # here, and wherever it says that it holds
    kvmscope schema check contract.toml --stated      # on a machine without KVM
    kvmscope schema check contract.toml 5.14 arm64-7.3
    """
    from ..analysis.contract import judge, notes
    from ..catalog.contracts import parse_contract
    from ..catalog.stats import load_stats
    from ..view.jsonout import dump
    from .echo import echo_lines, wrapped
    from .schema_kernels import HERE, read_kernel, read_text

    if stated and kernels:
        raise click.UsageError("--stated takes the kernels from the contract; name none")
    terms = parse_contract(read_text(contract), contract)
    asked = [read_kernel(name) for name in kernels or ([] if stated else [HERE])]
    if stated and terms.kernels is None:
        raise click.UsageError(f"{contract} states no kernels")
    under = [*asked, *(() if kernels else terms.stated())]
    stats = load_stats()
    verdicts = [judge(terms, kernel, stats) for kernel in under]
    remarks = list(notes(terms, under, stats))
    if as_json:
        click.echo(dump(check_json(terms, verdicts, remarks)))
    else:
        echo_lines(wrapped(check_lines(terms, verdicts, remarks), indent=_INDENT))
    sys.exit(1 if any(verdict.breaches for verdict in verdicts) else 0)


def check_json(contract: Contract, verdicts: Iterable[Verdict], remarks: Iterable[Note]) -> dict[str, Any]:
    """What each kernel makes of each stat, and what else is to be known."""
    from ..view.jsonout import FORMAT
    from .schema_kernels import kernel_json

    return {
        "format": FORMAT,
        "contract": contract.name,
        "kernels": [
            {
                **kernel_json(verdict.kernel),
                "stated": verdict.is_stated,
                "holds": not verdict.breaches,
                "breaches": [_breach_json(breach) for breach in verdict.breaches],
            }
            for verdict in verdicts
        ],
        "notes": [
            {**_stat_json(note), "text": note.text, "tier": note.tier.value if note.tier else None} for note in remarks
        ],
    }


def _breach_json(breach: Breach) -> dict[str, Any]:
    return {
        **_stat_json(breach),
        "reason": breach.reason,
        "replaced_by": list(breach.replaced_by),
        "tier": breach.tier.value if breach.tier else None,
        "why": breach.promise.why or None,
    }


def _stat_json(about: Breach | Note) -> dict[str, Any]:
    promise = about.promise
    return {"provider": promise.provider, "scope": promise.scope.value, "name": promise.name}


def check_lines(contract: Contract, verdicts: Sequence[Verdict], remarks: Sequence[Note]) -> list[str]:
    """For people: where it breaks and what to do about it, then where it holds, then the notes."""
    from ..host.text import printable
    from ..view.text import counted

    stats = counted(len(contract.promises), "stat")
    lines = [f"contract {printable(contract.name)}: {stats} on {counted(len(verdicts), 'kernel')}"]
    for breaches, group in _alike(verdicts):
        lines += ["", f"{'breaks' if breaches else 'holds'} on {_kernels_text([verdict.kernel for verdict in group])}"]
        for breach in breaches:
            instead = f"; use {', '.join(breach.replaced_by)}" if breach.replaced_by else ""
            lines.append(f"  {_stat_text(breach)} {printable(breach.reason, max_length=200)}{instead}")
            if breach.promise.why:
                lines.append(f"{' ' * _INDENT}relied on for: {printable(breach.promise.why, max_length=200)}")
    if remarks:
        lines += ["", "to be known:", *(f"  {_stat_text(note)} {note.text}" for note in remarks)]
    return lines


def _alike(verdicts: Iterable[Verdict]) -> list[tuple[tuple[Breach, ...], list[Verdict]]]:
    """Kernels that break the contract in the same way, together; those on which it holds come last."""
    groups: dict[tuple[tuple[str, str, str, str, tuple[str, ...]], ...], list[Verdict]] = {}
    for verdict in verdicts:
        key = tuple(
            (each.promise.provider, each.promise.scope.value, each.promise.name, each.reason, each.replaced_by)
            for each in verdict.breaches
        )
        groups.setdefault(key, []).append(verdict)
    return [(groups[key][0].breaches, groups[key]) for key in sorted(groups, key=lambda key: not key)]


def _kernels_text(kernels: Sequence[KernelTables]) -> str:
    """``here (6.18.44), x86 5.14, x86 5.16 to 6.1 (5 kernels)``: known kernels that follow one another as one."""
    from ..catalog.kernels import known_kernels
    from .schema_kernels import kernel_text

    known = known_kernels()
    runs: list[list[KernelTables]] = []
    for kernel in kernels:
        last = runs[-1][-1] if runs else None
        follows = last in known and kernel in known and known.index(kernel) == known.index(last) + 1
        if follows and last and _stem(last) == _stem(kernel):
            runs[-1].append(kernel)
        else:
            runs.append([kernel])
    return ", ".join(_run_text(run) if run[0] in known else kernel_text(run[0]) for run in runs)


def _run_text(run: Sequence[KernelTables]) -> str:
    versions = [kernel.name.rpartition("-")[2] for kernel in run]
    if len(run) == 1:
        return f"{_stem(run[0])} {versions[0]}"
    return f"{_stem(run[0])} {versions[0]} to {versions[-1]} ({len(run)} kernels)"


def _stem(kernel: KernelTables) -> str:
    return kernel.name.rpartition("-")[0]


def _stat_text(about: Breach | Note) -> str:
    from ..host.text import printable

    promise = about.promise
    provider = "" if promise.provider == "kvm" else f"{promise.provider}."
    return printable(f"{promise.scope.value} {provider}{promise.name}:", max_length=120)
