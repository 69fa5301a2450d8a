"""Reports what begins and what ends to be wrong with the VMs of this host, a line each.

    python examples/watch_findings.py [INTERVALS]

Without INTERVALS it goes on until Ctrl-C.
"""

from __future__ import annotations

import itertools
import sys

import kvmscope

INTERVAL_S = 1.0


def main(intervals: int | None) -> None:
    with kvmscope.open_host() as host:
        for view in itertools.islice(host.watch(INTERVAL_S), intervals):
            report = view.report()
            for finding in report.begun:
                cost = "" if finding.cost_cpus is None else f", about {finding.cost_cpus:.1g} CPU"
                print(f"{finding.severity.value}: {finding.name!r}: {finding.title}{cost}; {finding.remedies[0].do}")
            for ended in report.ended:
                print(f"ended ({ended.ended.why.value}): {ended.name!r}: {ended.title}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else None)
