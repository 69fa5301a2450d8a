"""The input of a verdict on one VM: its facts, its host, its configuration, and direct conclusions from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from ...errors import UsageError
from ...host.apicv import HostApicv
from ...host.config import InterruptConfig
from ...sample import Sample
from ..window import Window
from .cases import Case, facts_of
from .conditions import Condition, conditions
from .expectations import Expectation, expect
from .facts import VmFacts
from .hosts import hosts_of


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Facts that many VMs share. They are part of a cache key in every window, so the hash is computed once."""

    host: HostApicv
    config: InterruptConfig
    _hash: int | None = field(default=None, init=False, repr=False, compare=False)

    def __hash__(self) -> int:
        if self._hash is None:
            object.__setattr__(self, "_hash", hash((self.host, self.config)))
        return self._hash or 0


@dataclass(frozen=True)
class Subject:
    """One VM to be judged."""

    vm: VmFacts
    host: HostApicv
    config: InterruptConfig

    @classmethod
    def of(cls, case: Case, circumstances: Circumstances) -> Subject:
        return cls(facts_of(case), circumstances.host, circumstances.config)

    @cached_property
    def behind(self) -> Mapping[str, Condition]:
        """The conditions behind the reasons."""
        return conditions(self.vm, self.host)

    @cached_property
    def told(self) -> Mapping[str, Expectation]:
        """The expectations from the configuration, by reason."""
        return {expectation.reason: expectation for expectation in expect(self.config, self.host)}


def check_inputs(sample: Sample, configs: Sequence[InterruptConfig], window: Window | None) -> None:
    """Raises UsageError if the configurations or the window are of another sample."""
    if window is not None and window.current is not sample:
        raise UsageError("the window must end with the sample that is judged")
    if configs and len(configs) != len(sample.vms):
        raise UsageError(f"{len(configs)} configurations for {len(sample.vms)} VMs")


def circumstances_of(sample: Sample, host: HostApicv, configs: Sequence[InterruptConfig]) -> Iterator[Circumstances]:
    """The circumstances of each VM; equal ones are one object."""
    if not configs:
        configs = [InterruptConfig.unknown("other", "the VM's configuration was not read")] * len(sample.vms)
    found: dict[tuple[int, int], Circumstances] = {}
    for of_vm, config in zip(hosts_of(sample, host), configs, strict=True):
        key = (
            id(of_vm),
            id(config),
        )  # ids stay valid: the caller holds both objects; hashing them for every VM would cost more than judging
        if key not in found:
            found[key] = _circumstances(of_vm, config)
        yield found[key]


@lru_cache(maxsize=1024)
def _circumstances(host: HostApicv, config: InterruptConfig) -> Circumstances:
    """One object for equal circumstances, since comparing an object with itself costs nothing."""
    return Circumstances(host, config)
