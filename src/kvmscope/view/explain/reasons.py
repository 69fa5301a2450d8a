"""An inhibit reason of APICv or AVIC, by its name or as the kernel spells it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from ...catalog.inhibits import Inhibit, InhibitClass, Vendor, load_inhibits
from ...schema import Scope
from .values import ExplainContext, HostValues, stat_values

_PREFIXES = ("apicv_inhibit_reason_", "apicv_inhibit_")


@dataclass(frozen=True, slots=True, kw_only=True)
class InhibitExplanation:
    """A reason for which KVM does not use APICv or AVIC."""

    what: Annotated[Literal["reason"], "What the name is."] = "reason"
    name: Annotated[str, "Its name, as in stats."]
    class_: Annotated[InhibitClass, "Who brings it about."]
    vendors: Annotated[tuple[Vendor, ...], "Whose KVM module has it."]
    meaning: Annotated[str, "What it means."]
    set_by: Annotated[str, "The event that sets it."]
    cleared_by: Annotated[str, "The event that clears it."]
    compare: Annotated[tuple[str, ...], "Stats that show its condition, as PROVIDER.SCOPE.NAME."]
    remedies: Annotated[Mapping[str, str], "The change that removes it, by VMM or manager; `any` is always there."]
    here: HostValues


def explain_reason(context: ExplainContext, name: str) -> Iterator[InhibitExplanation]:
    """The inhibit reason of this name, if there is one."""
    plain = name.lower()
    for prefix in _PREFIXES:
        plain = plain.removeprefix(prefix)
    inhibit = load_inhibits().get(plain)
    if inhibit is not None:
        yield _explain(context, inhibit)


def _explain(context: ExplainContext, inhibit: Inhibit) -> InhibitExplanation:
    return InhibitExplanation(
        name=inhibit.name,
        class_=inhibit.cls,
        vendors=tuple(sorted(inhibit.vendors, key=lambda vendor: vendor.value)),
        meaning=inhibit.meaning,
        set_by=inhibit.set_by,
        cleared_by=inhibit.cleared_by,
        compare=inhibit.witness,
        remedies=dict(inhibit.remedies),
        here=stat_values(context, "apicv", Scope.VM, f"apicv_inhibit_{inhibit.name}"),
    )
