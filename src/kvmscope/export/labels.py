"""The subject of a series: label sets of VMs and vCPUs that do not change, escaped for each format.

A VM is named by its UUID, else by its name and the time of its creation. This label stays the same after a restart of
the reader, and never belongs to another VM. Names and UUIDs are untrusted text: characters that a terminal would act on
are escaped, and long text is cut.

Rule: two VMs of one scene never have the same label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import repeat
from typing import Final

from ..host.text import printable
from ..sample import Sample
from ..scene import Scene
from ..units import rfc3339
from ..view.values import plain_name

_MOST_CHARACTERS: Final = 128
_NIL: Final = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, eq=False)
class LabelSets:
    """The label sets of some subjects, in order. ``names``: label names; ``rows``: label values, one row per subject.

    The forms for each format are made once and cached, as a host has the same VMs from scrape to scrape. Two sets are
    equal only if they are the same object.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The text between braces: ``vm="…",vcpu="0"``."""
        return tuple(label_text(dict(zip(self.names, row, strict=True))) for row in self.rows)

    @cached_property
    def patterns(self) -> tuple[bytes, ...]:
        """The same text as bytes for a ``%`` pattern, with percent signs escaped."""
        return tuple(text.replace("%", "%%").encode() for text in self.texts)


@lru_cache(maxsize=32)
def label_sets(names: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> LabelSets:
    """The label sets with these values: the object of the last scrape, with its caches, if the values are the same."""
    return LabelSets(names, rows)


def label_text(labels: Mapping[str, str]) -> str:
    """The text of labels between braces, in the text format and in OpenMetrics."""
    return ",".join(f'{name}="{escaped_value(value)}"' for name, value in labels.items())


def escaped_value(text: str) -> str:
    """A label's value, escaped for use between quotes. Source: the text format and OpenMetrics 1.0 agree on this."""
    return encodable(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def encodable(text: str) -> str:
    """The text made encodable in UTF-8: command-line bytes that are not UTF-8 appear as lone surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8")


def vm_keys(scene: Scene) -> tuple[str, ...]:
    """The label ``vm`` of each VM of a scene."""
    rows = range(len(scene.sample.vms))
    keys = _distinct(list(map(_key, repeat(scene), rows)), lambda row, key: f"{key}{_birth(scene, row)}")
    # VMs with the same name and time of creation exist only on a simulated host.
    return tuple(_distinct(keys, lambda row, key: f"{key}#{scene.sample.vms.vm_id(row)}"))


def _distinct(keys: list[str], further: Callable[[int, str], str]) -> list[str]:
    count = Counter(keys)
    return [key if count[key] == 1 else further(row, key) for row, key in enumerate(keys)]


def vm_label_sets(keys: Sequence[str]) -> LabelSets:
    """The label sets of VMs with these keys."""
    return LabelSets(("vm",), tuple((key,) for key in keys))


def vcpu_label_sets(sample: Sample, keys: Sequence[str]) -> LabelSets:
    """The label sets of all vCPUs of a sample, whose VMs have these keys."""
    owners, ids = sample.vcpus.vm.tolist(), sample.vcpus.id.tolist()
    return LabelSets(("vm", "vcpu"), tuple((keys[vm], str(vcpu)) for vm, vcpu in zip(owners, ids, strict=True)))


def shown_text(text: str | None) -> str:
    """Untrusted text as a label's value; "" if unknown, which Prometheus treats as a missing label."""
    return "" if text is None else printable(text, max_length=_MOST_CHARACTERS)


def _key(scene: Scene, row: int) -> str:
    process = scene.identities[row].process
    if process is not None and process.uuid and process.uuid != _NIL:
        return shown_text(process.uuid)
    return f"{shown_text(plain_name(scene, row))}{_birth(scene, row)}"


def _birth(scene: Scene, row: int) -> str:
    """The time of a VM's creation, or its process; "" if neither is known."""
    created_ns = int(scene.sample.vms.created_ns[row])
    if created_ns >= 0:
        return f"@{rfc3339(created_ns)}"
    process = scene.identities[row].process
    return f"@{process.pid}-{process.start_ticks}" if process is not None else ""
