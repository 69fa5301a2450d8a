"""Prints what each vCPU did in the last second: ``python examples/vcpu_rates.py [STAT…]``, by default exits and halts.

A rate that is not known, since the vCPU is new or its counters were reset, is printed as ``-``.
"""

from __future__ import annotations

import math
import sys
import time

import kvmscope
from kvmscope import Scope


def main(stats: list[str]) -> None:
    with kvmscope.open_host() as host:
        before = host.read()
        time.sleep(1)
        window = kvmscope.Window(before, host.read())
        names = [who.name for who in host.identify(window.current)]
    vcpus = window.current.vcpus
    columns = [window.rate("kvm", Scope.VCPU, stat) for stat in stats]
    print("vCPU", *stats, sep="\t")
    for row, (vm, vcpu) in enumerate(zip(vcpus.vm, vcpus.id, strict=True)):
        rates = ("-" if math.isnan(column[row]) else f"{column[row]:.0f}" for column in columns)
        print(f"{names[vm]}/{vcpu}", *rates, sep="\t")


if __name__ == "__main__":
    main(sys.argv[1:] or ["exits", "halt_exits"])
