"""The judgements of a window: the verdict on interrupt acceleration, and findings.

Joins a scene's data about VMs with its data about the machine and the VMMs' command lines.
"""

from __future__ import annotations

from functools import cached_property

from ..analysis.apicv import Verdicts, WhatIf, judge, what_if
from ..analysis.caveats import TruthValue, facts_of, judge_all, rules_here
from ..analysis.evaluate import Evaluator
from ..analysis.findings import Judgement, Watcher
from ..analysis.observations import halt_poll_limit_ns, is_mmio_uncached, observe
from ..analysis.window import Window
from ..catalog.caveats import load_caveats
from ..catalog.findings import Rule, load_findings
from ..catalog.metrics import Metric, formulas, load_metrics
from ..formula.check import Formula
from ..host.apicv import host_apicv
from ..host.config import InterruptConfig, config_of
from ..host.config.halting import hlt_exits_disabled
from ..scene import Scene
from ..schema import Scope


def judge_scene(scene: Scene, window: Window | None = None) -> Verdicts:
    """The verdict on every VM of the scene, from its state, this machine and the VMMs' command lines."""
    return judge(scene.sample, host_apicv(scene.machine), _configs(scene), window)


def foresee(scene: Scene, window: Window | None = None) -> tuple[WhatIf, ...]:
    """Predictions for every VM of the scene with APICv or AVIC switched on."""
    return what_if(scene.sample, host_apicv(scene.machine), _configs(scene), window)


def _configs(scene: Scene) -> list[InterruptConfig]:
    hardware = host_apicv(scene.machine).hardware
    return [config_of(identity.process, identity.domain_xml, hardware=hardware) for identity in scene.identities]


def _halting(scene: Scene) -> list[bool | None]:
    return [hlt_exits_disabled(identity.process) for identity in scene.identities]


def _silent_s(scene: Scene) -> list[float | None]:
    """For each VM, how long its VMM has not answered; None if its process is unknown."""
    answers = ((scene.pid(row), identity.silent_s) for row, identity in enumerate(scene.identities))
    return [None if pid is None else silent_s or 0.0 for pid, silent_s in answers]


class Examiner:
    """Judges consecutive windows by the rules of the catalogue."""

    def __init__(self) -> None:
        self._watcher: Watcher | None = None

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        return load_findings()

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """Every metric by its name."""
        return {metric.name: metric for metric in load_metrics()}

    def evaluator(self, scene: Scene, window: Window) -> Evaluator:
        """The evaluator for everything shown of a window: its metrics, and the facts that rules need besides stats."""
        halting = [] if window.has("settings", Scope.VM, "hlt_exits_disabled") else _halting(scene)
        facts = observe(
            window,
            host_apicv(scene.machine),
            hlt_exits_disabled=halting,
            vmm_silent_s=_silent_s(scene),
            halt_poll_ns=None if scene.sample.simulated else halt_poll_limit_ns(scene.machine),
            mmio_uncached=not scene.sample.simulated and is_mmio_uncached(scene.machine),
        )
        return Evaluator(window, self._formulas, facts=facts)

    @cached_property
    def _formulas(self) -> dict[str, Formula]:
        return formulas(self.metrics.values())

    def update(self, scene: Scene, window: Window, evaluator: Evaluator | None = None) -> Judgement:
        """The judgement after a window that ends with the sample of ``scene``.

        ``evaluator``: the evaluator of this scene and window, if one was made before.
        """
        if self._watcher is None:
            rules = rules_here(self.rules, facts_of(scene.machine, scene.sample))
            self._watcher = Watcher(rules, self._formulas, silent=self._silent(scene))
        return self._watcher.update(evaluator or self.evaluator(scene, window))

    @property
    def watcher(self) -> Watcher:
        """The watcher that judges windows; exists after the first window."""
        assert self._watcher is not None
        return self._watcher

    def verdicts(self, scene: Scene, window: Window | None, judgement: Judgement) -> Verdicts | None:
        """The verdict on interrupt acceleration, if a finding needs it."""
        if not any(finding.rule.adds_verdict for finding in judgement.findings):
            return None
        return judge_scene(scene, window)

    def _silent(self, scene: Scene) -> dict[str, str]:
        """Reasons why rules are not judged on this host, by rule. Simulated VMs do not depend on it."""
        if scene.sample.simulated:
            return {}
        caveats, facts = load_caveats(), facts_of(scene.machine, scene.sample)
        why: dict[str, str] = {}
        for rule in self.rules:
            for slug, truth in judge_all(caveats, rule.silent_if, facts).items():
                if truth.verdict is TruthValue.HOLDS:
                    why.setdefault(rule.slug, f"its stats mean something else here: {truth.reason} (caveat {slug})")
        return why
