"""Runs inside an emulated x86 kernel: scenes of a guest that halts all the time, as bytes in base64 in JSON.

What two kernels make of the same guest is compared in tests/kernels/test_diff.py.
"""

from __future__ import annotations

import base64
import json

from kvmscope.collect import open_host
from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec
from kvmscope.scene import encode

SCENES, INTERVAL_S = 25, 0.5
GUEST = LabSpec(workload="halt", name="steady", halt_poll_ns=0, period_us=20_000)


def main() -> None:
    with process.start(GUEST) as guests, open_host("bpf") as host:
        guests.go()
        scenes = [host.look_after(INTERVAL_S) for _ in range(SCENES)]
    print(json.dumps([base64.b64encode(encode(scene)).decode() for scene in scenes]))


if __name__ == "__main__":
    main()
