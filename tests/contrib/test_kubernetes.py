"""The manifest for Kubernetes: the API takes it, its capabilities suffice, and none of them can be spared."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "contrib/kubernetes"
OBJECTS: list[dict[str, Any]] = list(yaml.safe_load_all((FOLDER / "kvmscope.yaml").read_text(encoding="utf-8")))
(POD,) = (each["spec"]["template"]["spec"] for each in OBJECTS if each["kind"] == "DaemonSet")
(CONTAINER,) = POD["containers"]
CAPABILITIES: list[str] = CONTAINER["securityContext"]["capabilities"]["add"]
KUBERNETES = "1.30"


@pytest.mark.parametrize("manifest", OBJECTS, ids=lambda each: str(each["kind"]))
def test_the_api_takes_it(manifest: dict[str, Any]) -> None:
    validator = pytest.importorskip("kubernetes_validate")
    validator.validate(manifest, KUBERNETES, strict=True)
    with pytest.raises(validator.ValidationError):
        validator.validate({**manifest, "spce": {}}, KUBERNETES, strict=True)


def test_it_shares_the_pids_of_the_host_and_nothing_else() -> None:
    assert POD["hostPID"] is True
    assert not {"hostNetwork", "hostIPC"} & set(POD)
    security = CONTAINER["securityContext"]
    assert "privileged" not in security
    assert security["capabilities"]["drop"] == ["ALL"]
    assert [volume["hostPath"]["path"] for volume in POD["volumes"] if "hostPath" in volume] == ["/sys/kernel/btf"]


def test_policy_probe_and_server_name_one_port() -> None:
    (policy,) = (each["spec"] for each in OBJECTS if each["kind"] == "NetworkPolicy")
    (port,) = CONTAINER["ports"]
    assert policy["ingress"][0]["ports"][0]["port"] == port["containerPort"]
    assert f"--web.listen-address=:{port['containerPort']}" in CONTAINER["command"]
    assert CONTAINER["livenessProbe"]["httpGet"]["port"] == port["name"]


class Server:
    """What the container runs, with some capabilities alone and at a port of its own choice."""

    def __init__(self, capabilities: list[str]) -> None:
        bounding = ",".join(["-all", *(f"+{name.lower()}" for name in capabilities)])
        program, *arguments = (each for each in CONTAINER["command"] if not each.startswith("--web.listen-address"))
        assert program == "kvmscope"
        with_these = ["setpriv", f"--bounding-set={bounding}", "--inh-caps=-all", "--pdeathsig=KILL"]
        self.process = subprocess.Popen(
            [*with_these, sys.executable, "-m", program, *arguments, "--web.listen-address=127.0.0.1:0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def first_lines(self) -> str:
        """What it says until it serves, or ends."""
        assert self.process.stdout is not None
        said = ""
        for line in self.process.stdout:
            said += line
            if line.startswith("serving at"):
                break
        return said

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.mark.live
@pytest.mark.needs("root", "kvm", "bpf", "setpriv")
def test_its_capabilities_suffice_to_serve_and_are_given_up() -> None:
    server = Server(CAPABILITIES)
    try:
        said = server.first_lines()
        (address,) = re.findall(r"serving at (http://\S+)", said)
        metrics = urllib.request.urlopen(f"{address}metrics", timeout=20).read().decode()
        status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="utf-8")
    finally:
        server.end()
    assert re.search(r"^kvmscope_up(\{.*\})? 1", metrics, re.MULTILINE)
    assert set(re.findall(r"^Cap(?:Prm|Eff|Bnd|Amb):\t(\w+)$", status, re.MULTILINE)) == {"0" * 16}


@pytest.mark.live
@pytest.mark.needs("root", "kvm", "bpf", "setpriv")
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_none_of_them_can_be_spared(capability: str) -> None:
    server = Server([each for each in CAPABILITIES if each != capability])
    try:
        assert "serving at" not in server.first_lines()
    finally:
        server.end()
