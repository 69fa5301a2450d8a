"""Listens at a Unix socket for VMMs that hand over their stats, and prints the scalars among them every second.

The first argument is the path of the socket, the second for how many seconds to print. A VMM that does so:
``python examples/publish_vmm.py --hand-to PATH``.
"""

from __future__ import annotations

import socket
import sys
import time

from kvmscope.sample import Sample
from kvmscope.sources.passed import PassedSource


def show(sample: Sample) -> None:
    for block in sample.blocks:
        for stat in block.schema.descriptors:
            if stat.size == 1:
                numbers = block.column(stat.name)
                print(stat.name, *(numbers.astype(bool) if stat.is_boolean else numbers), flush=True)


def main() -> None:
    path, seconds = sys.argv[1], float(sys.argv[2])
    with socket.socket(socket.AF_UNIX) as listener, PassedSource() as source:
        listener.bind(path)
        listener.listen()
        connection, _ = listener.accept()
        with connection:
            while source.receive(connection):  # until the VMM has nothing more to hand over
                pass
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            show(source.read())
            time.sleep(1)


if __name__ == "__main__":
    main()
