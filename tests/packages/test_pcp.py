"""PCP's pmdaopenmetrics, Debian's, reads a simulated host through ``kvmscope serve`` by the file of contrib/pcp."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from clean_root import CleanRoot, unpacked_root
from monitoring import free_port, running

from kvmscope.lab import simulate

URL = (Path(__file__).parents[2] / "contrib/pcp/kvmscope.url").read_text(encoding="utf-8")
AGENTS = "/var/lib/pcp/pmdas/openmetrics"
VMS = 4
READ = f"""
printf 'root {{\\n openmetrics 144:*:*\\n}}\\n' > names
printf 'openmetrics 144 pipe binary notready python3 {AGENTS}/pmdaopenmetrics.python -u root\\n' > pmcd.conf
mkdir -p /run/pcp /var/log/pcp/pmcd
/usr/lib/pcp/bin/pmcd -f -i 127.0.0.1 -p $PORT -c pmcd.conf -n names -l pmcd.log -U root & pmcd=$!
export PMCD_PORT=$PORT
timeout 60 sh -c 'until pminfo -h 127.0.0.1 openmetrics.kvmscope.kvmscope_simulated > /dev/null; do sleep 0.1; done'
pminfo -h 127.0.0.1 -f openmetrics.kvmscope.kvmscope_simulated openmetrics.kvmscope.kvm_vm_exits_total
kill $pmcd; wait $pmcd || true"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CleanRoot]:
    """A Debian with PCP, which starts none of its services."""
    with unpacked_root("bookworm", tmp_path_factory.mktemp("pcp")) as root:
        (root.path / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
        (root.path / "usr/sbin/policy-rc.d").chmod(0o755)
        root.run("apt-get update -qq && apt-get install -y -qq --no-install-recommends pcp python3-requests")
        yield root


@pytest.fixture(scope="module")
def served() -> Iterator[int]:
    """The port at which a simulated host is served."""
    port = free_port()
    serve = [sys.executable, "-m", "kvmscope", "serve", "--source=published", f"--web.listen-address=127.0.0.1:{port}"]
    with simulate.start(vms=VMS, vcpus=1), running(serve, f"http://127.0.0.1:{port}/-/healthy"):
        yield port


def test_it_has_a_value_for_each_vm(root: CleanRoot, served: int) -> None:
    folder = root.path / AGENTS.lstrip("/") / "config.d"
    (folder / "kvmscope.url").write_text(URL.replace("9796", str(served)), encoding="utf-8")
    said = root.run(f"PORT={free_port()}\n{READ}").stdout
    simulated, exits = said.split("openmetrics.kvmscope.kvm_vm_exits_total")
    assert "value 1" in simulated
    assert len(re.findall(r"vm:\S+\"\] value [1-9]", exits)) == VMS
