"""The episodes of a recording: the findings that began and ended in each, the groups that counted, how to view it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from ..analysis.findings import EndCause
from ..catalog.findings import Severity
from ..host.text import printable
from ..store.episode_note import EpisodeEnd, EpisodeNote, NotedFinding, NotedGroup
from ..units import format_bytes, format_estimate, format_seconds, rfc3339
from .text import counted
from .values import Answer, Moment

_NAME_CELLS = 32
_SHOWN = 5
_WHY_ENDED = {
    EpisodeEnd.CLEARED: "until its findings had ended",
    EpisodeEnd.LONGEST: "until the longest time of an episode",
    EpisodeEnd.LARGEST: "until the largest size of an episode",
    EpisodeEnd.STOPPED: "until the recorder was stopped",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeFinding:
    """A finding of an episode."""

    rule: Annotated[str, "The rule's slug."]
    severity: Annotated[Severity, "How bad it is."]
    title: Annotated[str, "The rule's title."]
    vm: Annotated[str, "Id of the VM."]
    name: Annotated[str, "Name of the VM. Untrusted text."]
    vcpu: Annotated[int | None, "Id of the vCPU; null if it is of the whole VM."]
    began: Annotated[Moment, "Beginning of the first interval in which its condition held."]
    ended: Annotated[Moment | None, "When it ended; null if it had not by the end of the episode."]
    end: Annotated[EndCause | None, "How it ended."]
    cost_cpus: Annotated[float | None, "Its highest cost in CPUs, an estimate."]
    evidence: Annotated[Mapping[str, float | None], "Metrics that showed it then, by name."]


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeGroup:
    """An opt-in group that an episode was meant to count."""

    name: Annotated[str, "Name of the group."]
    on: Annotated[Moment | None, "First values with it; null if it did not count."]
    off: Annotated[Moment | None, "When it was stopped; null if it counted to the end, or never."]
    cpus: Annotated[float | None, "The largest cost that was measured or expected, in CPUs."]
    why_not: Annotated[str, "Why it did not count, or not to the end; else empty."]


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeView:
    """An episode."""

    number: Annotated[int, "Number of the episode, which grows."]
    place: Annotated[str, "What to give to --from to read it."]
    size_bytes: Annotated[int, "Size of its files."]
    since: Annotated[Moment, "Time of its first values."]
    began: Annotated[Moment, "When the finding that started it was seen."]
    ended: Annotated[Moment | None, "Time of its last values; null if it has no end."]
    why_ended: Annotated[EpisodeEnd | None, "Why it ended; null if it has no end."]
    focus: Annotated[Moment | None, "The time that --from shows unless --at names another one."]
    findings: Annotated[Sequence[EpisodeFinding], "What was found, in the order in which it began."]
    more_findings: Annotated[int, "How many more there were."]
    groups: Annotated[Sequence[EpisodeGroup], "The groups that were to be counted."]


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeListView(Answer):
    """The answer of ``episodes``."""

    episodes: Annotated[Sequence[EpisodeView], "The oldest first."]


def episode_view(number: int, place: str, size_bytes: int, note: EpisodeNote) -> EpisodeView:
    """The view of one episode, made from its note."""
    return EpisodeView(
        number=number,
        place=place,
        size_bytes=size_bytes,
        since=Moment(note.since_ns),
        began=Moment(note.began_ns),
        ended=_moment(note.ended_ns),
        why_ended=note.why_ended,
        focus=_moment(note.focus_ns),
        findings=tuple(map(_finding, note.findings)),
        more_findings=note.more_findings,
        groups=tuple(map(_group, note.groups)),
    )


def _finding(noted: NotedFinding) -> EpisodeFinding:
    return EpisodeFinding(
        rule=noted.rule,
        severity=noted.severity,
        title=noted.title,
        vm=noted.vm,
        name=noted.name,
        vcpu=noted.vcpu,
        began=Moment(noted.began_ns),
        ended=_moment(noted.ended_ns),
        end=noted.end,
        cost_cpus=noted.cost_cpus,
        evidence=noted.evidence,
    )


def _group(noted: NotedGroup) -> EpisodeGroup:
    return EpisodeGroup(
        name=noted.name, on=_moment(noted.on_ns), off=_moment(noted.off_ns), cpus=noted.cpus, why_not=noted.why_not
    )


def _moment(time_ns: int | None) -> Moment | None:
    return None if time_ns is None else Moment(time_ns)


# --- text -------------------------------------------------------------------------------------------------------------


def episode_lines(view: EpisodeListView, *, shows_all: bool) -> Iterator[str]:
    """For each episode: when it was, what was found, which groups counted, and how to view it."""
    if not view.episodes:
        yield "no episodes"
    for episode in view.episodes:
        yield _head(episode)
        shown = episode.findings if shows_all else episode.findings[:_SHOWN]
        for finding in shown:
            yield from _finding_lines(finding)
        more = len(episode.findings) - len(shown) + episode.more_findings
        if more:
            yield f"  … and {counted(more, 'more finding')}" + ("" if shows_all else "; --all shows them")
        yield from map(_group_line, episode.groups)
        yield f"  kvmscope doctor --from {printable(episode.place, max_length=200)}"


def _head(episode: EpisodeView) -> str:
    end = "no end: it is still being recorded, or its recorder was killed"
    if episode.ended is not None and episode.why_ended is not None:
        lasted_s = (episode.ended.ns - episode.since.ns) / 1e9
        end = f"{format_seconds(lasted_s)}, {_WHY_ENDED[episode.why_ended]}"
    return f"{episode.number}  {rfc3339(episode.began.ns)}  {end}  ({format_bytes(episode.size_bytes)})"


def _finding_lines(finding: EpisodeFinding) -> Iterator[str]:
    name = printable(finding.name, max_length=_NAME_CELLS)
    subject = name if finding.vcpu is None else f"{name}/{finding.vcpu}"
    cost = "" if finding.cost_cpus is None else f", about {format_estimate(finding.cost_cpus)} CPU"
    end = "" if finding.ended is None else f" to {rfc3339(finding.ended.ns)}"
    since = f"from {rfc3339(finding.began.ns)}{end}"
    yield f"  {finding.severity.value}  {subject}: {finding.title} [{finding.rule}]{cost}, {since}"


def _group_line(group: EpisodeGroup) -> str:
    cost = "" if group.cpus is None else f", at most {format_estimate(group.cpus)} CPU"
    if group.on is None:
        return f"  group {group.name} did not count: {group.why_not or 'the episode ended before it could'}"
    until = "" if group.off is None else f" to {rfc3339(group.off.ns)}: {group.why_not}"
    return f"  group {group.name} counted from {rfc3339(group.on.ns)}{until}{cost}"
