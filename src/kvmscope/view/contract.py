"""Whether kernels have the stats that a program relies on, as plain values and as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

from ..analysis.contract import Breach, ContractCheck, Note
from ..catalog.contracts import Contract
from ..host.text import printable
from ..schema import Scope, Tier
from .kernels import KernelTitle, kernel_head, kernels_text
from .text import counted
from .values import Answer

TEXT_INDENT = 6
"""Columns before the text below a stat."""

_MAX_TEXT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class BreachView:
    """A stat that a kernel does not have as the contract states it."""

    provider: Annotated[str, "Provider of the stat."]
    scope: Scope
    name: Annotated[str, "Its name."]
    reason: Annotated[str, "What is wrong."]
    replaced_by: Annotated[tuple[str, ...], "Stats of that kernel to use instead."]
    tier: Annotated[Tier | None, "How stable it is; null if the catalogue lacks it."]
    why: Annotated[str | None, "Why the program relies on it."]


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelVerdict(KernelTitle):
    """One kernel, held to a contract."""

    stated: Annotated[bool, "Whether the contract states this kernel."]
    holds: Annotated[bool, "Whether it has every stat as stated."]
    breaches: tuple[BreachView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractNote:
    """A note on a stat that the contract relies on, although nothing breaks."""

    provider: Annotated[str, "Provider of the stat."]
    scope: Scope
    name: Annotated[str, "Its name."]
    text: Annotated[str, "What to know."]
    tier: Annotated[Tier | None, "How stable it is; null if the catalogue lacks it."]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractView(Answer):
    """Kernels, held to a contract."""

    contract: Annotated[str, "Name of the contract; untrusted text."]
    kernels: tuple[KernelVerdict, ...]
    notes: tuple[ContractNote, ...]


def contract_view(contract: Contract, verdicts: Iterable[ContractCheck], notes: Iterable[Note]) -> ContractView:
    """Whether each kernel keeps the contract, stat by stat, and the notes."""
    return ContractView(
        contract=contract.name,
        kernels=tuple(
            KernelVerdict(
                **kernel_head(verdict.kernel),
                stated=verdict.is_stated,
                holds=not verdict.breaches,
                breaches=tuple(map(_breach, verdict.breaches)),
            )
            for verdict in verdicts
        ),
        notes=tuple(map(_note, notes)),
    )


def _breach(breach: Breach) -> BreachView:
    return BreachView(
        provider=breach.promise.provider,
        scope=breach.promise.scope,
        name=breach.promise.name,
        reason=breach.reason,
        replaced_by=breach.replaced_by,
        tier=breach.tier,
        why=breach.promise.why or None,
    )


def _note(note: Note) -> ContractNote:
    promise = note.promise
    return ContractNote(
        provider=promise.provider, scope=promise.scope, name=promise.name, text=note.text, tier=note.tier
    )


def contract_lines(view: ContractView, *, stats: int) -> list[str]:
    """Where it breaks and what to do about it, then where it holds, then the notes. ``stats``: their number."""
    kernels = counted(len(view.kernels), "kernel")
    lines = [f"contract {printable(view.contract)}: {counted(stats, 'stat')} on {kernels}"]
    for group in _alike(view.kernels):
        breaches = group[0].breaches
        lines += ["", f"{'breaks' if breaches else 'holds'} on {kernels_text(group)}"]
        for breach in breaches:
            instead = f"; use {', '.join(breach.replaced_by)}" if breach.replaced_by else ""
            lines.append(f"  {_stat_text(breach)} {printable(breach.reason, max_length=_MAX_TEXT)}{instead}")
            if breach.why:
                lines.append(f"{' ' * TEXT_INDENT}relied on for: {printable(breach.why, max_length=_MAX_TEXT)}")
    if view.notes:
        lines += ["", "notes:", *(f"  {_stat_text(note)} {note.text}" for note in view.notes)]
    return lines


def _alike(kernels: Iterable[KernelVerdict]) -> list[Sequence[KernelVerdict]]:
    """Kernels grouped by how they break the contract; those on which it holds come last."""
    groups: dict[tuple[BreachView, ...], list[KernelVerdict]] = {}
    for kernel in kernels:
        groups.setdefault(kernel.breaches, []).append(kernel)
    return sorted(groups.values(), key=lambda group: not group[0].breaches)


def _stat_text(about: BreachView | ContractNote) -> str:
    provider = "" if about.provider == "kvm" else f"{about.provider}."
    return printable(f"{about.scope.value} {provider}{about.name}:", max_length=120)
