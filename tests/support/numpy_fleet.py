"""A fleet as numpy has it: every host's recording judged scene after scene by what judges a live host.

It is slow, reads every column, and shares nothing with the queries of engines: what they answer is held to it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from types import TracebackType
from typing import Self

import numpy as np

from kvmscope.analysis.evaluate import Evaluator
from kvmscope.analysis.findings import Finding
from kvmscope.analysis.window import Window
from kvmscope.catalog.findings import find_rule
from kvmscope.engines.fleet import (
    AccelerationState,
    FleetAcceleration,
    FleetFinding,
    FleetFindings,
    FleetHost,
    FleetMetric,
    FleetSchema,
    FleetVm,
)
from kvmscope.engines.refusal import EngineRefusal, QueryEngine
from kvmscope.errors import KvmscopeError
from kvmscope.formula.tree import HOST
from kvmscope.host.apicv import host_apicv
from kvmscope.scene import Scene
from kvmscope.schema import Scope
from kvmscope.store.documents import DocumentWriter
from kvmscope.store.recording import Recording
from kvmscope.view.judging import Examiner, judge_scene


class NumpyFleet:
    """The recording of a fleet. ``every_s``: length of a window, 0 for each from one scene to the next."""

    engine = QueryEngine.DUCKDB
    """What it stands for."""

    def __init__(self, place: str, *, every_s: float = 0.0) -> None:
        self.place = place
        self.damage: Sequence[KvmscopeError] = ()
        self._every_ns = round(every_s * 1e9)
        self._scenes: dict[str, list[Scene]] = {}
        self._judged: dict[str, dict[tuple[str, str], list[tuple[Finding, Scene, Scene, bool]]]] = {}
        for scene in Recording(place).scenes():
            assert scene.origin is not None
            self._scenes.setdefault(scene.origin.host, []).append(scene)

    def hosts(self) -> Sequence[FleetHost]:
        return sorted((_host(host, scenes) for host, scenes in self._scenes.items()), key=lambda host: host.name or "")

    def findings(self, *, rule: str | None = None, host: str | None = None) -> FleetFindings:
        found = [
            _finding(each, stood)
            for each in self._scenes
            if host in (None, each)
            for slug, stood in self._stood_on(each).items()
            if rule in (None, slug[1])
        ]
        return FleetFindings(found, [each.slug for each in Examiner().rules], (), self._every_ns / 1e9)

    def vms(self, chosen: Collection[tuple[str, str]]) -> Sequence[FleetVm]:
        found = {}
        for host, scenes in self._scenes.items():
            for scene in scenes:
                for vm, identity in zip(scene.sample.vms.id.tolist(), scene.identities, strict=True):
                    process = identity.process
                    if process is not None and (host, f"{vm:016x}") in chosen:
                        found[host, vm] = FleetVm(
                            host, f"{vm:016x}", process.vmm, process.managed_by, identity.domain_xml
                        )
        return list(found.values())

    def acceleration(self, *, has_rates: bool = True) -> Sequence[FleetAcceleration]:
        del has_rates
        return [row for host, scenes in self._scenes.items() for row in self._accelerated(host, scenes)]

    def metrics(self, names: Sequence[str]) -> tuple[Sequence[FleetMetric], Sequence[EngineRefusal]]:
        found = []
        for host, scenes in self._scenes.items():
            values: dict[str, list[tuple[float, float]]] = {}
            for _, window, evaluator in self._windows(scenes):
                for name in names:
                    value = float(evaluator.of(name, HOST)[0])
                    if math.isfinite(value):
                        values.setdefault(name, []).append((value, window.interval_s))
            for name, of in values.items():
                mean = sum(value * length for value, length in of) / sum(length for _, length in of)
                found.append(FleetMetric(host, name, mean))
        return found, ()

    def schemas(self) -> Sequence[FleetSchema]:
        writer = DocumentWriter()
        found = {
            (host, writer.schema(block.schema)): block.schema
            for host, scenes in self._scenes.items()
            for scene in scenes
            for block in scene.sample.blocks
        }
        return [FleetSchema(host, key, schema) for (host, key), schema in found.items()]

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def _windows(self, scenes: Sequence[Scene]) -> Iterator[tuple[Scene, Window, Evaluator]]:
        examiner = Examiner()
        for previous, current in pairwise(self._borders(scenes)):
            window = Window(previous.sample, current.sample)
            yield current, window, examiner.evaluator(current, window)

    def _borders(self, scenes: Sequence[Scene]) -> list[Scene]:
        """The first scene of each slot of time, and the last scene."""
        if not self._every_ns:
            return list(scenes)
        first: dict[int, Scene] = {}
        for scene in scenes:
            first.setdefault(scene.sample.monotonic_ns // self._every_ns, scene)
        borders = list(first.values())
        return borders if borders[-1] is scenes[-1] else [*borders, scenes[-1]]

    def _stood_on(self, host: str) -> dict[tuple[str, str], list[tuple[Finding, Scene, Scene, bool]]]:
        """What ``_stood`` finds on a host, judged once."""
        if host not in self._judged:
            self._judged[host] = self._stood(self._scenes[host])
        return self._judged[host]

    def _stood(self, scenes: Sequence[Scene]) -> dict[tuple[str, str], list[tuple[Finding, Scene, Scene, bool]]]:
        """Each finding of each window, by VM and rule: with the scenes of the window, and whether it is the last."""
        stood: dict[tuple[str, str], list[tuple[Finding, Scene, Scene, bool]]] = {}
        examiner = Examiner()
        borders = self._borders(scenes)
        for previous, current in pairwise(borders):
            for finding in examiner.update(current, Window(previous.sample, current.sample)).findings:
                last = current is borders[-1]
                stood.setdefault((str(finding.vm), finding.rule.slug), []).append((finding, previous, current, last))
        return stood

    def _accelerated(self, host: str, scenes: Sequence[Scene]) -> Iterator[FleetAcceleration]:
        last = scenes[-1]
        cost = find_rule("apicv-inhibited").cost
        assert cost is not None
        injected, costs = [], []
        for _, _, evaluator in self._windows(scenes):
            injected.append(evaluator.of("injections_per_s", Scope.VM))
            costs.append(evaluator.of(cost, Scope.VM))
        vcpus = np.bincount(last.sample.vcpus.vm, minlength=len(last.sample.vms))
        is_supported = host_apicv(last.machine).supported.value
        for vm in judge_scene(last).vms:
            reasons = tuple(reason.name for reason in vm.reasons) if vm.is_verified else ()
            state = AccelerationState.UNKNOWN
            if is_supported is False:
                state = AccelerationState.UNSUPPORTED
            elif "disabled" in reasons:
                state = AccelerationState.OFF
            elif reasons:
                state = AccelerationState.BLOCKED
            elif vm.is_verified:
                state = AccelerationState.ACTIVE
            yield FleetAcceleration(
                host=host,
                vm=str(vm.id),
                name=last.identities[vm.row].name,
                vmm=last.vmm(vm.row),
                vcpus=int(vcpus[vm.row]),
                state=state,
                reasons=reasons,
                injections_per_s=_mean([values[vm.row] for values in injected]),
                cost_cpus=_mean([values[vm.row] for values in costs]),
            )


def _host(host: str, scenes: Sequence[Scene]) -> FleetHost:
    machine, sample = scenes[-1].machine, scenes[-1].sample
    modules = [module for module in (machine.kvm.value, machine.kvm_vendor.value) if module is not None]
    return FleetHost(
        host=host,
        name=machine.hostname.value,
        kernel=machine.kernel_release.value,
        architecture=machine.architecture.value,
        module=machine.kvm_vendor.value.name if machine.kvm_vendor.value else None,
        cpu=machine.cpu.value.model if machine.cpu.value else None,
        parameters={
            f"{module.name}.{name}": fact.value
            for module in modules
            for name, fact in module.parameters.items()
            if fact.value is not None
        },
        simulated=sample.simulated,
        vms=len(sample.vms),
        vcpus=len(sample.vcpus),
        first_ns=scenes[0].sample.taken_ns,
        last_ns=sample.taken_ns,
        machine=machine,
    )


def _finding(host: str, stood: Sequence[tuple[Finding, Scene, Scene, bool]]) -> FleetFinding:
    finding, _, current, _ = stood[-1]
    dearest = max((each for each, _, _, _ in stood), key=lambda each: each.cost_cpus or each.lost_vcpus or 0.0)
    return FleetFinding(
        rule=finding.rule.slug,
        host=host,
        vm=str(finding.vm),
        name=current.identities[finding.vm_row].name,
        since_ns=stood[0][1].sample.taken_ns,
        until_ns=current.sample.taken_ns,
        windows=len(stood),
        stands=stood[-1][3],
        cost_cpus=_mean([each.cost_cpus for each, _, _, _ in stood]),
        lost_vcpus=_mean([each.lost_vcpus for each, _, _, _ in stood]),
        evidence=dearest.evidence,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None and math.isfinite(value)]
    return sum(known) / len(known) if known else None
