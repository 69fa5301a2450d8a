"""The label sets of a scene's VMs and vCPUs, made again only if a VM or vCPU came, ended or was renamed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..sample import VmId
from ..scene import Scene
from ..view.values import VmHead, vm_head
from .labels import LabelSets, shown_text, vcpu_label_sets, vm_keys, vm_label_sets

_WORD = re.compile(r"[a-z]+\.[a-z_]+")
"""A manager's key as in ``VmmProcess``, such as ``openstack.name``; keys of a recording are not trusted."""

_FACTS = ("vm", "id", "name", "uuid", "vmm", "managed_by", "pid")


@dataclass(frozen=True)
class Subjects:
    """The subjects of series at ``scene``, and at later scenes with the same VMs and vCPUs."""

    scene: Scene

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The label ``vm`` of each VM, in the order of the scene."""
        return vm_keys(self.scene)

    @cached_property
    def rows(self) -> Mapping[VmId, int]:
        """The row of each VM."""
        return self.scene.sample.vms.row_of

    @cached_property
    def vms(self) -> LabelSets:
        return vm_label_sets(self.keys)

    @cached_property
    def vcpus(self) -> LabelSets:
        return vcpu_label_sets(self.scene.sample, self.keys)

    @cached_property
    def facts(self) -> LabelSets:
        """The labels of the info series: everything known about a VM's identity, and its names in managers."""
        heads = [vm_head(self.scene, row) for row in range(len(self.keys))]
        words = sorted({word for head in heads for word in head["known_as"] if _WORD.fullmatch(word)})
        names = (*_FACTS, *(word.replace(".", "_") for word in words))
        rows = (self._facts_of(key, head, words) for key, head in zip(self.keys, heads, strict=True))
        return LabelSets(names, tuple(rows))

    def is_of(self, scene: Scene) -> bool:
        """Whether the scene has the same VMs and vCPUs, with the same names."""
        if scene is self.scene:
            return True
        now, then = scene.sample, self.scene.sample
        tables = ((now.vms.id, then.vms.id), (now.vcpus.vm, then.vcpus.vm), (now.vcpus.id, then.vcpus.id))
        if not all(np.array_equal(*pair) for pair in tables) or now.vms.label != then.vms.label:
            return False
        pairs = zip(scene.identities, self.scene.identities, strict=True)
        return all(a.name == b.name and a.process == b.process and a.domain_xml == b.domain_xml for a, b in pairs)

    def at(self, scene: Scene) -> Subjects:
        """The subjects of a later scene: this object, if nothing changed."""
        return self if self.is_of(scene) else Subjects(scene)

    @staticmethod
    def _facts_of(key: str, head: VmHead, words: Sequence[str]) -> tuple[str, ...]:
        texts = (head["plain_name"], head["uuid"], head["vmm"], head["managed_by"])
        pid = "" if head["pid"] is None else str(head["pid"])
        known_as = (shown_text(head["known_as"].get(word)) for word in words)
        return (key, str(head["id"]), *map(shown_text, texts), pid, *known_as)
