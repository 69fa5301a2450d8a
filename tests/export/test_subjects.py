"""Whose series there are, and what the info series says of each VM."""

from __future__ import annotations

from dataclasses import replace

from kvmscope.export.exposition import Reading
from kvmscope.export.subjects import Subjects
from kvmscope.host.process import VmmProcess

KNOWN_AS = (("openstack.name", "db\x1b"), ("libvirt.domain", "instance-2a"), ('bad"} 1', "x"), ("openstack.näme", "x"))


def known(reading: Reading) -> Subjects:
    """Subjects of which the first VM is known to managers, by words that a recording may have, too."""
    scene = reading.scene
    process = VmmProcess(5, "qemu", "instance-2a", None, "openstack", "qemu-kvm", (), 1, KNOWN_AS)
    first = replace(scene.identities[0], process=process)
    return Subjects(replace(scene, identities=(first, *scene.identities[1:])))


def test_the_words_of_managers_are_labels_of_the_info_series(reading: Reading) -> None:
    facts = known(reading).facts
    assert facts.names[7:] == ("libvirt_domain", "openstack_name")
    assert [row[7:] for row in facts.rows] == [("instance-2a", "db\\x1b")] + [("", "")] * (len(facts.rows) - 1)


def test_labels_are_made_again_when_a_manager_knows_a_vm_by_another_word(reading: Reading) -> None:
    subjects = known(reading)
    assert not subjects.is_of(reading.scene)
    assert subjects.is_of(known(reading).scene)
