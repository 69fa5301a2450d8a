"""A VM as it stands before the judge: what was read of it, its host, its configuration, and what follows at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ...errors import UsageError
from ...host.apicv import HostApicv
from ...host.config import InterruptConfig
from ...sample import Sample, VmId
from ..window import Window
from .conditions import Condition, conditions
from .expectations import Expectation, expect
from .facts import VmFacts, hosts_of, read_facts


@dataclass(frozen=True)
class Subject:
    """One VM."""

    id: VmId
    vm: VmFacts
    host: HostApicv
    config: InterruptConfig

    @cached_property
    def behind(self) -> Mapping[str, Condition]:
        """The conditions behind the reasons."""
        return conditions(self.vm, self.host)

    @cached_property
    def told(self) -> Mapping[str, Expectation]:
        """What the configuration leads one to expect, by reason."""
        return {expectation.reason: expectation for expectation in expect(self.config, self.host)}


def read_subjects(
    sample: Sample, host: HostApicv, configs: Sequence[InterruptConfig], window: Window | None
) -> tuple[Subject, ...]:
    """One a VM of the sample. Raises UsageError if the configurations or the window are of another sample."""
    if window is not None and window.current is not sample:
        raise UsageError("the window must end with the sample that is judged")
    if not configs:
        configs = [InterruptConfig.unknown("other", "the VM's configuration was not looked at")] * len(sample.vms)
    if len(configs) != len(sample.vms):
        raise UsageError(f"{len(configs)} configurations for {len(sample.vms)} VMs")
    parts = zip(read_facts(sample, window), hosts_of(sample, host), configs, strict=True)
    return tuple(Subject(sample.vms.vm_id(vm.row), vm, its_host, config) for vm, its_host, config in parts)
