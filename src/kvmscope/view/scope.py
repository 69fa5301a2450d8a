"""The scope of a doctor's report: everything, one VM, one rule, or both; and its text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..catalog.findings import Rule, find_rule, load_findings, near_rules
from ..errors import UsageError
from ..host.text import printable
from ..scene import Scene
from .doctor import DoctorReport
from .doctor_text import event_lines, head_lines, report_lines, rule_report_lines
from .subjects import FollowedVm, followed, match_subject, near_vms
from .watch import HostView


@dataclass(frozen=True, slots=True)
class DoctorScope:
    """The requested scope. ``note``: a message about how an ambiguous word was understood, or empty."""

    vm: FollowedVm | None = None
    rule: Rule | None = None
    note: str = ""

    def reports(self, views: Iterable[HostView]) -> Iterator[DoctorReport]:
        """The report of each view, until the VM that was requested has ended."""
        for view in views:
            report = self.report(view)
            yield report
            if report.vm is not None and report.vm.ended is not None:
                return

    def report(self, view: HostView) -> DoctorReport:
        """The report of a view within the scope."""
        return view.report(self.vm, rule=None if self.rule is None else self.rule.slug)

    def lines(
        self, report: DoctorReport, *, width: int, lists_unchecked: bool = False, shows_ended: bool = False
    ) -> Iterator[str]:
        """The report as text. The options are those of ``report_lines``."""
        if self.rule is not None:
            return rule_report_lines(report, self.rule, width=width)
        return report_lines(report, width=width, lists_unchecked=lists_unchecked, shows_ended=shows_ended)


def find_scope(scenes: Sequence[Scene], word: str | None, slug: str | None) -> DoctorScope:
    """The scope that a user typed. ``word``: a VM of a scene, else a rule; ``slug``: a rule. Raises UsageError."""
    rule = None if slug is None else find_rule(slug)
    if word is None:
        return DoctorScope(None, rule)
    rules = {each.slug: each for each in load_findings()}
    vm = next((followed(scene, found) for scene in scenes if (found := match_subject(scene, word))), None)
    if vm is not None:
        also = f"{word} is a VM here, and a rule too; for the rule: kvmscope doctor --rule {word}"
        return DoctorScope(vm, rule, also if word in rules else "")
    if word in rules and rule is None:
        return DoctorScope(None, rules[word])
    near = dict.fromkeys([*(name for scene in scenes for name in near_vms(scene, word)), *near_rules(word)])
    raise UsageError(f"there is no VM '{printable(word)}', and no rule either", nearest=tuple(near))


def watch_lines(report: DoctorReport, *, width: int) -> Iterator[str]:
    """The findings that began or ended in the last interval; in the first report, also what is watched."""
    if report.windows == 1:
        yield from head_lines(report, width=width)
    yield from event_lines(report)
