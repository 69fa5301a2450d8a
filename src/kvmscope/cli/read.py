"""``kvmscope read``: raw values as the kernel has them. Nothing is scaled, derived or left out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from .options import json_option, source_option
from .session import open_host

if TYPE_CHECKING:
    from ..sample import Block
    from ..scene import Scene
    from ..schema import Descriptor, Scope
    from ..view.subjects import Selection

Value: TypeAlias = "int | bool | list[int]"


@click.command("read", short_help="Raw values as the kernel has them.")
@click.argument("vm", required=False, metavar="[VM[/VCPU]]")
@click.argument("stats", nargs=-1, metavar="[STAT]…")
@click.option("--provider", metavar="NAME", help="Only stats of this provider; `kvmscope list` lists them.")
@source_option
@json_option
def command(*, vm: str | None, stats: tuple[str, ...], provider: str | None, source: str, as_json: bool) -> None:
    """Read raw values as the kernel has them, all of them or those named.

    A VM goes by its name, process id or id; VM/0 is its vCPU 0. STAT may have * and ? in it.

    \b
    kvmscope read web-1/0
    kvmscope read web-1 exits 'halt_*'
    kvmscope read exits
    """
    with open_host(source) as host:
        scene = host.look()
    wanted = choose(scene, vm, stats, provider)
    if as_json:
        from ..view.jsonout import dump

        click.echo(dump(to_json(scene, wanted)))
        return
    _echo(scene, wanted)


@dataclass(frozen=True)
class Wanted:
    """What was asked for; None means all."""

    subject: Selection | None
    provider: str | None
    names: frozenset[str] | None

    def has_stat(self, provider: str, name: str) -> bool:
        return self.provider in (None, provider) and (self.names is None or name in self.names)

    def has_vm(self, row: int) -> bool:
        return self.subject is None or self.subject.vm == row

    def has_vcpu(self, row: int) -> bool:
        return self.subject is None or self.subject.vcpu in (None, row)

    @property
    def has_vm_itself(self) -> bool:
        """False if only a vCPU was asked for."""
        return self.subject is None or self.subject.vcpu is None


def choose(scene: Scene, vm: str | None, stats: Sequence[str], provider: str | None) -> Wanted:
    """What the words on the command line mean. A first word that is no VM may be a stat. Raises UsageError."""
    from ..view.subjects import find_stats, find_subject, match_subject

    schemas = _schemas_of(scene, provider)
    names = list(dict.fromkeys(name for schema in schemas for name in schema.names))
    subject = None
    if vm is not None:
        subject = match_subject(scene, vm)
        if subject is None and _may_be_a_stat(vm, names):
            stats = (vm, *stats)
        elif subject is None:
            subject = find_subject(scene, vm)
    return Wanted(subject, provider, find_stats(names, stats) if stats else None)


def to_json(scene: Scene, wanted: Wanted) -> dict[str, Any]:
    """DESIGN's ``read --json``."""
    from ..view import jsonout

    tables = _Tables(scene, wanted)
    sample = scene.sample
    vms = []
    for row in filter(wanted.has_vm, range(len(sample.vms))):
        rows = sample.vcpus_of_vm[row]
        vcpus = [
            {**jsonout.vcpu(sample, vcpu), "stats": tables.of_vcpu(vcpu)}
            for vcpu in range(rows.start, rows.stop)
            if wanted.has_vcpu(vcpu)
        ]
        vms.append({**jsonout.vm(scene, row), "stats": tables.of_vm(row), "vcpus": vcpus})
    return {**jsonout.head(scene), "vms": vms, "gaps": jsonout.gaps(sample.gaps)}


def to_lines(scene: Scene, wanted: Wanted) -> list[str]:
    """One line a value: whose, which stat, how much, of what."""
    from ..view.text import cells, unit_text

    rows = list(_rows(scene, wanted))
    if not rows:
        return []
    subjects = max(cells(subject) for subject, _, _ in rows)
    stats = max(len(stat.name) for _, stat, _ in rows)
    scalars = max((len(_value_text(value)) for _, _, value in rows if not isinstance(value, list)), default=0)
    lines = []
    for subject, stat, value in rows:
        blank = " " * (subjects - cells(subject))
        text = _value_text(value)
        line = f"{subject}{blank}  {stat.name:<{stats}}  {text:>{scalars}}"
        unit = "" if stat.is_boolean or stat.is_histogram else unit_text(stat)
        lines.append(f"{line}  {unit}".rstrip())
    return lines


def _echo(scene: Scene, wanted: Wanted) -> None:
    from ..view.text import SIMULATED, no_vm_line, note_lines
    from .echo import echo_lines, echo_notes

    lines = to_lines(scene, wanted)
    echo_lines([SIMULATED, *lines] if scene.sample.simulated and lines else lines)
    if not len(scene.sample.vms):
        echo_notes([no_vm_line(scene.sample.source, scene.sample.gaps)])
    echo_notes(note_lines(scene.sample.source, scene.why_not, scene.sample.gaps))


class _Tables:
    """The wanted values by subject and name; if two providers have a name, the second's is ``provider:name``."""

    def __init__(self, scene: Scene, wanted: Wanted) -> None:
        from ..schema import Scope

        self._wanted = wanted
        sample = scene.sample
        self._vms: list[dict[str, Value]] = [{} for _ in range(len(sample.vms))]
        self._vcpus: list[dict[str, Value]] = [{} for _ in range(len(sample.vcpus))]
        for block in sample.blocks:
            into = self._vms if block.schema.scope is Scope.VM else self._vcpus
            self._add(block, into)

    def of_vm(self, row: int) -> dict[str, Value]:
        return self._vms[row] if self._wanted.has_vm_itself else {}

    def of_vcpu(self, row: int) -> dict[str, Value]:
        return self._vcpus[row]

    def _add(self, block: Block, into: list[dict[str, Value]]) -> None:
        provider = block.schema.provider
        stats = [stat for stat in block.schema.descriptors if self._wanted.has_stat(provider, stat.name)]
        for row, words in zip(block.rows.tolist(), block.values.tolist(), strict=True):
            values = into[row]
            for stat in stats:
                key = stat.name if stat.name not in values else f"{provider}:{stat.name}"
                values[key] = _value(stat, words)


def _rows(scene: Scene, wanted: Wanted) -> Iterator[tuple[str, Descriptor, Value]]:
    """Every wanted value: those of a VM, then those of its vCPUs, in the providers' order."""
    from ..schema import Scope

    sample = scene.sample
    places = {scope: _places(scene, scope) for scope in Scope}
    for vm in filter(wanted.has_vm, range(len(sample.vms))):
        name = scene.title(vm)
        of_vm = [(name, Scope.VM, vm)] if wanted.has_vm_itself else []
        rows = sample.vcpus_of_vm[vm]
        of_vcpus = [
            (f"{name}/{sample.vcpus.id[vcpu]}", Scope.VCPU, vcpu)
            for vcpu in range(rows.start, rows.stop)
            if wanted.has_vcpu(vcpu)
        ]
        for subject, scope, row in itertools.chain(of_vm, of_vcpus):
            for block, place in places[scope].get(row, ()):
                words = block.values[place].tolist()
                for stat in block.schema.descriptors:
                    if wanted.has_stat(block.schema.provider, stat.name):
                        yield subject, stat, _value(stat, words)


def _places(scene: Scene, scope: Scope) -> dict[int, list[tuple[Block, int]]]:
    """Where the words of each subject are."""
    found: dict[int, list[tuple[Block, int]]] = {}
    for block in scene.sample.blocks_of(scope):
        for place, row in enumerate(block.rows.tolist()):
            found.setdefault(row, []).append((block, place))
    return found


def _value(stat: Descriptor, words: list[int]) -> Value:
    first = stat.offset // 8
    if stat.size != 1:
        return words[first : first + stat.size]
    word = words[first] if stat.bit is None else words[first] >> stat.bit & 1
    return bool(word) if stat.is_boolean else word


def _value_text(value: Value) -> str:
    """``9×0 1 5 22×0`` for a list: runs of a number are written once."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    runs = ((number, len(list(run))) for number, run in itertools.groupby(value))
    return " ".join(f"{length}×{number}" if length > 1 else str(number) for number, length in runs)


def _schemas_of(scene: Scene, provider: str | None) -> list[Any]:
    from ..errors import UsageError

    schemas = [block.schema for block in scene.sample.blocks]
    providers = sorted({schema.provider for schema in schemas})
    if provider is not None and schemas and provider not in providers:
        raise UsageError(f"there is no provider {provider!r} here; there are {', '.join(providers)}")
    return [schema for schema in schemas if provider in (None, schema.provider)]


def _may_be_a_stat(word: str, names: Sequence[str]) -> bool:
    from ..errors import UsageError
    from ..view.subjects import find_stats

    try:
        find_stats(names, [word])
    except UsageError:
        return False
    return True
