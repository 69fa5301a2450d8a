"""The commands of ``fleet`` on a real Prometheus that has four hosts of two kernels, asked for what is there now."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from json_schemas import check_json
from prometheus_server import exported_samples, open_metrics_of, prometheus_over, serving
from scraped_hosts import moved, scenes_of

from kvmscope.cli import main
from kvmscope.export.stats import Detail

PIT = frozenset({"pit_reinj"})
HOSTS = {
    "a:9796": scenes_of("alpha", "mmio-storm", "poll-waste", kernel="6.12.9"),
    "b:9796": scenes_of("beta", "mmio-storm", kernel="6.12.9"),
    "c:9796": scenes_of("gamma", "apicv-inhibited", apicv=PIT),
    "d:9796": scenes_of("delta"),
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    now_s = time.time()
    samples = (exported_samples(at, moved(scenes, now_s), Detail.VCPU, is_judged=True) for at, scenes in HOSTS.items())
    text = open_metrics_of(chain.from_iterable(samples))
    with prometheus_over(text, tmp_path_factory.mktemp("prometheus")) as found:
        yield found


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ("fleet", *arguments), prog_name="kvmscope")


def asked(url: str, command: str, *options: str) -> dict[str, Any]:
    done = run(command, *options, "--prometheus", url, "--json")
    assert done.exit_code == 0, done.output
    check_json(("fleet", command), done.stdout)
    answer: dict[str, Any] = json.loads(done.stdout)
    assert (answer["engine"], answer["host_count"], answer["vm_count"]) == ("Prometheus", 4, 8)
    return answer


def test_status_has_the_hosts_by_the_cost_of_findings(url: str) -> None:
    hosts = asked(url, "status")["hosts"]
    assert {host["name"]: host["affected_vms"] for host in hosts} == {"alpha": 2, "beta": 1, "gamma": 1, "delta": 0}
    assert hosts[0]["name"] == "alpha"
    assert "alpha" in run("status", "--prometheus", url).stdout


@pytest.mark.parametrize("options", [(), ("--interval", "60s")], ids=["as hosts found", "from the counters"])
def test_doctor_has_what_each_host_has_and_says_what_it_does_not_judge(url: str, options: tuple[str, ...]) -> None:
    answer = asked(url, "doctor", *options)
    found = {total["rule"]: (total["vms"], total["hosts"]) for total in answer["by_rule"]}
    expected = {"mmio-storm": (2, 2), "poll-waste": (1, 1)}
    if not options:
        expected["apicv-inhibited"] = (1, 1)
    assert found == expected
    refused = {each["rule"]: each["reason"] for each in answer["not_judged"]}
    assert ("apicv-inhibited" in refused) == bool(options)
    assert all(refused.values())
    text = run("doctor", *options, "--prometheus", url).stdout
    assert "[mmio-storm]" in text
    assert ("not judged by Prometheus: " in text) == bool(options)


def test_doctor_shows_one_rule_or_one_host(url: str) -> None:
    of_rule = asked(url, "doctor", "--of", "mmio-storm")
    assert {each["host_name"] for each in of_rule["findings"]} == {"alpha", "beta"}
    of_host = asked(url, "doctor", "--of", "beta")
    assert {each["rule"] for each in of_host["findings"]} == {"mmio-storm"}
    done = run("doctor", "--of", "nobody", "--prometheus", url)
    assert (done.exit_code, done.stdout) == (2, "")


def test_apicv_says_what_blocks_vms(url: str) -> None:
    answer = asked(url, "apicv")
    assert {state: count for state, count in answer["total"]["states"].items() if count} == {"active": 6, "blocked": 2}
    assert "pit_reinj" in json.dumps(answer)


def test_diff_compares_kernels(url: str) -> None:
    answer = asked(url, "diff", "--by", "kernel")
    assert {side["value"]: side["hosts"] for side in answer["sides"]} == {"6.12.9": 2, "6.18.4": 2}


def test_schemas_are_refused_with_what_would_help(url: str) -> None:
    done = run("schemas", "--prometheus", url)
    assert (done.exit_code, done.stdout) == (3, "")
    assert "Prometheus keeps no schemas" in done.stderr
    assert "\n  try: ask recordings or ClickHouse" in done.stderr


@pytest.mark.parametrize("command", ["status", "doctor", "apicv", "diff"])
def test_a_prometheus_that_scrapes_no_host_is_refused_with_what_would_help(tmp_path: Path, command: str) -> None:
    with serving(tmp_path) as empty:
        done = run(command, "--prometheus", empty)
    assert (done.exit_code, done.stdout) == (3, "")
    assert "has no host that kvmscope serves" in done.stderr
    assert "kvmscope serve" in done.stderr
