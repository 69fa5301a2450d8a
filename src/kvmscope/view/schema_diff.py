"""Differences of stats between two kernels, as plain values and as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from ..analysis.schema_diff import ChangeKind, Difference, SchemaDiff
from ..host.text import printable
from ..schema import Scope, Tier
from .kernels import KernelTitle, kernel_head, kernel_text
from .text import columns, counted
from .values import Answer

TEXT_INDENT = 6
"""Columns before the text below a stat."""

_SECTIONS = {
    "gone": (ChangeKind.REMOVED, ChangeKind.RENAMED),
    "new": (ChangeKind.ADDED,),
    "described differently": (ChangeKind.KIND, ChangeKind.UNIT, ChangeKind.SCALE, ChangeKind.SIZE),
    "same name, different meaning": (ChangeKind.MEANING,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceView:
    """The difference of one stat between two kernels."""

    provider: Annotated[str, "Provider of the stat."]
    scope: Scope
    name: Annotated[str, "Its name."]
    what: Annotated[ChangeKind, "How it changed."]
    before: Annotated[str | None, "In the first kernel."]
    after: Annotated[str | None, "In the second kernel."]
    tier: Annotated[Tier | None, "How stable it is; null if the catalogue lacks it."]
    replaced_by: Annotated[tuple[str, ...], "Stats of the second kernel to use in its place."]
    text: Annotated[str, "How the catalogue describes the change; may be empty."]


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaDiffView(Answer):
    """Every difference between the stats of two kernels."""

    before: KernelTitle
    after: KernelTitle
    differences: tuple[DifferenceView, ...]
    not_compared: Annotated[tuple[str, ...], "Providers that only one of the two has."]


def schema_diff_view(found: SchemaDiff) -> SchemaDiffView:
    """The view of both kernels and every difference between them."""
    return SchemaDiffView(
        before=KernelTitle(**kernel_head(found.before)),
        after=KernelTitle(**kernel_head(found.after)),
        differences=tuple(map(difference_view, found.differences)),
        not_compared=found.not_compared,
    )


def difference_view(difference: Difference) -> DifferenceView:
    """The difference of one stat, as a view."""
    return DifferenceView(
        provider=difference.provider,
        scope=difference.scope,
        name=difference.name,
        what=difference.turn,
        before=difference.before,
        after=difference.after,
        tier=difference.tier,
        replaced_by=difference.replaced_by,
        text=difference.text,
    )


def schema_diff_lines(view: SchemaDiffView) -> list[str]:
    """Added and removed stats first, then stats that are counted differently, then stats with another meaning."""
    lines = [f"from {kernel_text(view.before)}", f"to   {kernel_text(view.after)}"]
    lines += section_lines(view.differences)
    if view.not_compared:
        names = ", ".join(map(printable, view.not_compared))
        lines += ["", f"not compared, because only one of the two has it: {names}"]
    count = counted(len(view.differences), "difference") if view.differences else "no difference"
    return [*lines, "", count]


def section_lines(differences: Sequence[DifferenceView]) -> list[str]:
    """Each kind of difference below a title, with a blank line before the title."""
    lines = []
    for title, turns in _SECTIONS.items():
        part = [difference for difference in differences if difference.what in turns]
        if part:
            lines += ["", f"{title}:", *_section_lines(part)]
    return lines


def _section_lines(differences: list[DifferenceView]) -> list[str]:
    rows = columns(
        [(f"  {each.scope.value}", printable(_full_name(each)), _tier(each), _what(each)) for each in differences]
    )
    lines = []
    for row, each in zip(rows, differences, strict=True):
        lines += [row, *([f"{' ' * TEXT_INDENT}{each.text}"] if each.text else [])]
    return lines


def _full_name(difference: DifferenceView) -> str:
    return difference.name if difference.provider == "kvm" else f"{difference.provider}.{difference.name}"


def _tier(difference: DifferenceView) -> str:
    return difference.tier.value if difference.tier else "uncatalogued"


def _what(difference: DifferenceView) -> str:
    match difference.what:
        case ChangeKind.REMOVED if difference.replaced_by:
            return f"{difference.before}; use {', '.join(difference.replaced_by)}"
        case ChangeKind.REMOVED:
            return difference.before or ""
        case ChangeKind.RENAMED:
            return f"renamed to {difference.after}"
        case ChangeKind.ADDED | ChangeKind.MEANING:
            return difference.after or ""
        case turn:
            return f"{turn.value} {difference.before} -> {difference.after}"
