"""``kvmscope govern polling`` on real guests: holds, resumes, shares with nobody, and leaves the limit as it was.

Here the parameter is a file that stands in for it, mounted over it in a mount namespace of the command: all else is
what runs on a host, and nothing of this host changes. What it does to the polling of guests is shown on an emulated
kernel, in tests/kernels/test_govern.py, and how its guard restores the value in tests/linux/test_halt_poll.py.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec
from kvmscope.linux.halt_poll import PARAMETER, read_halt_poll_ns

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "bpf", "root")]

BEGUN_NS = read_halt_poll_ns() if Path(PARAMETER).exists() else 200_000
OTHERS_NS = 70_000
STEPS_MAX = 60
LOWERS_IN_STEPS = 60
POLLING_CPUS = 0.1
"""The guest below has three times that on a CPU of its own. KVM does not poll on a CPU that others want too."""
WASTING = LabSpec(workload="uneven", period_us=60, name="governed")
"""Two short halts have KVM poll for longer, and the third outlasts the poll: what it polls there is lost."""
TIMEOUT_S = 60.0
CONTRACT = """\
name = "of the lab"
[[stat]]
provider = "kvmscope_lab"
name = "requests_served"
scope = "vcpu"
kind = "cumulative"
"""
"""A stat that the lab's VMM publishes: it is there while such a VM runs."""


class Governor:
    """The command, with a file for the parameter."""

    def __init__(self, stand_in: Path, running: subprocess.Popen[str]) -> None:
        self.stand_in = stand_in
        self._running = running

    @property
    def limit_ns(self) -> int:
        return int(self.stand_in.read_text(encoding="ascii"))

    def step(self, until: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        """The first step of which it holds."""
        assert self._running.stdout is not None
        for line in itertools.islice(self._running.stdout, STEPS_MAX):
            if until(step := json.loads(line)):
                return dict(step)
        raise AssertionError(f"no such step: {self.end()}")

    def end(self, number: signal.Signals | None = None) -> tuple[int, str]:
        """Its exit code and what it said on stderr."""
        if number is not None:
            self._running.send_signal(number)
        _, stderr = self._running.communicate(timeout=TIMEOUT_S)
        return self._running.returncode, stderr


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """It begins with this host's limit, by which KVM polls for the guests whatever is written to the file."""
    path = tmp_path / "halt_poll_ns"
    path.write_text(f"{BEGUN_NS}\n", encoding="ascii")
    return path


Start = Callable[..., Governor]


@pytest.fixture
def start(stand_in: Path, tmp_path: Path) -> Iterator[Start]:
    contract = tmp_path / "contract.toml"
    contract.write_text(CONTRACT, encoding="utf-8")
    with contextlib.ExitStack() as running:

        def begin(*, mount: str = "bind", held_to_lab: bool = False) -> Governor:
            place = f'mount --bind "{stand_in}" {PARAMETER}'
            if mount == "ro":
                place += f" && mount -o remount,ro,bind {PARAMETER}"
            options = ["--contract", str(contract)] if held_to_lab else []
            command = [sys.executable, "-m", "kvmscope", "govern", "polling", "--json", "--interval", "300ms"]
            command += ["--patience", "1", "--wakeup-p99", "10s"]
            line = ["unshare", "--mount", "sh", "-c", f'{place} && exec "$@"', "sh", *command, *options]
            process_ = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            running.callback(_finish, process_)
            return Governor(stand_in, process_)

        yield begin


def _finish(running: subprocess.Popen[str]) -> None:
    if running.poll() is None:
        running.kill()
        running.communicate(timeout=TIMEOUT_S)


@pytest.fixture
def guest() -> Iterator[None]:
    with process.start(LabSpec(workload="halt", period_us=2000, name="governed")) as vm:
        vm.go()
        yield


@contextlib.contextmanager
def publishing(name: str) -> Iterator[None]:
    with process.start(LabSpec(workload="idle", name=name, publishes=True)) as vm:
        vm.wait_for_ready(TIMEOUT_S)
        vm.go()
        yield


@pytest.mark.usefixtures("guest")
def test_it_holds_while_its_contract_is_broken_and_goes_on_when_it_holds_again(start: Start) -> None:
    with publishing("first"):
        governor = start(held_to_lab=True)
        assert governor.step()["action"] == "keep"
    held = governor.step(lambda step: step["action"] == "hold")
    assert "kvmscope_lab.requests_served" in held["reason"]
    assert (held["new_limit_ns"], governor.limit_ns) == (BEGUN_NS, BEGUN_NS)
    with publishing("second"):
        resumed = governor.step(lambda step: step["action"] != "hold")
        assert resumed["reason"] == "what it relies on holds again"
        assert governor.step()["action"] != "hold"
        code, said = governor.end(signal.SIGTERM)
    assert (code, governor.limit_ns) == (0, BEGUN_NS), said


def test_when_all_vms_have_ended_it_goes_on_quietly_and_judges_the_next_one(start: Start) -> None:
    with wasting():
        governor = start()
        governor.step(lambda step: step["net_cpus"] is not None)
    alone = governor.step(lambda step: step["obeying_vms"] == step["other_vms"] == 0)
    quiet = [alone, *(governor.step() for _ in range(2))]
    assert {step["action"] for step in quiet} == {"keep"}
    assert (quiet[-1]["polled_cpus"], quiet[-1]["net_cpus"]) == (0, None)
    with wasting():
        assert governor.step(lambda step: step["net_cpus"] is not None)["obeying_vms"] == 1
    code, said = governor.end(signal.SIGTERM)
    assert (code, governor.limit_ns) == (0, BEGUN_NS)
    assert said == f"halt_poll_ns is {BEGUN_NS}; it is restored at the end\n"


@pytest.mark.usefixtures("guest")
def test_a_second_one_is_refused_and_the_first_goes_on(start: Start) -> None:
    first = start()
    first.step()
    code, said = start().end()
    assert (code, "another governor holds halt_poll_ns" in said) == (3, True)
    assert first.step()["limit_ns"] == first.limit_ns


@pytest.mark.usefixtures("guest")
def test_the_value_of_a_third_hand_ends_it_and_stays(start: Start) -> None:
    governor = start()
    governor.step()
    governor.stand_in.write_text(f"{OTHERS_NS}\n", encoding="ascii")
    with contextlib.suppress(AssertionError):
        governor.step(lambda _: False)
    code, said = governor.end()
    assert (code, governor.limit_ns) == (3, OTHERS_NS)
    assert f"another program set it to {OTHERS_NS}; that value stays" in said


@pytest.mark.usefixtures("guest")
def test_a_read_only_parameter_is_said_before_anything_is_judged(start: Start) -> None:
    governor = start(mount="ro")
    code, said = governor.end()
    assert code == 3
    assert "may not be changed here, not even by root" in said
    assert governor.limit_ns == BEGUN_NS


@pytest.mark.usefixtures("favoured")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_limit_that_it_lowered_is_back_when_it_ends_or_is_killed(
    start: Start, number: signal.Signals, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    with wasting():
        governor = start()
        lower(governor)
        governor.end(number)
    eventually(lambda: governor.limit_ns == BEGUN_NS)


@contextlib.contextmanager
def wasting() -> Iterator[None]:
    with process.start(WASTING) as vm:
        vm.go()
        yield


def lower(governor: Governor) -> dict[str, Any]:
    """The first step that lowers the limit; skips where CPUs are too busy for KVM to poll."""
    seen: list[float] = []

    def is_last(step: dict[str, Any]) -> bool:
        seen.append(step["polled_cpus"])
        return step["action"] == "lower" or len(seen) == LOWERS_IN_STEPS

    step = governor.step(is_last)
    if step["action"] != "lower" and max(seen) < POLLING_CPUS:
        pytest.skip(f"the CPUs are too busy for KVM to poll for more than {max(seen):.4f} CPU")
    assert step["action"] == "lower", step["reason"]
    assert governor.limit_ns < BEGUN_NS
    return step
