"""A web page that has its name resolve to 127.0.0.1 reads nothing of a server that only loopback protects."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from crafted import Crafted, ListSource
from hypothesis import given
from hypothesis import strategies as st

from kvmscope.collect import Host
from kvmscope.errors import UsageError
from kvmscope.export.exposition import ExportOptions
from kvmscope.web.server.host_names import is_own_name, parse_host_name
from kvmscope.web.server.listen import ListenAddress
from kvmscope.web.server.run import MonitorServer, ServerPlan

OWN = ["localhost", "LOCALHOST:9796", "localhost.", "a.localhost:80", "127.0.0.1:9796", "127.1.2.3", "10.0.0.7:9796"]
OWN += ["[::1]:9796", "[::1]", "[fe80::1%eth0]:80"]
FOREIGN = ["evil.example", "evil.example:9796", "localhost.evil.example", "127.0.0.1.evil.example", "notlocalhost"]
FOREIGN += ["evil.example:localhost", "user@localhost", "[::1].evil.example", "[evil.example]", "2130706433", "", "a b"]


@pytest.fixture
def serving(crafted: Crafted) -> Iterator[Callable[..., int]]:
    """Starts a server on loopback by a plan with these words, and gives its port."""
    with ExitStack() as running:

        def start(**words: Any) -> int:
            plan = ServerPlan((ListenAddress("127.0.0.1", 0),), 3600.0, ExportOptions(), **words)
            server = MonitorServer(plan, on_error=lambda _error: None)
            running.callback(server.close)
            server.open(lambda: Host(ListSource([crafted.before]), {}, machine=crafted.machine))
            return int(server.notes[-1].rpartition(":")[2].strip("/"))

        yield start


def ask(port: int, host: str, path: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.putrequest("GET", path, skip_host=True)
        connection.putheader("Host", host)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_a_request_for_a_name_of_others_is_refused_whatever_it_asks_for(serving: Callable[..., int]) -> None:
    port = serving()
    for path in ("/", "/metrics", "/api/v1/vms", "/api/v1/events", "/-/healthy", "/nowhere"):
        status, text = ask(port, "evil.example:80", path)
        assert status == 421, path
        assert "evil.example" in text
        assert "Host: localhost" in text


def test_requests_for_the_host_itself_are_answered(serving: Callable[..., int]) -> None:
    port = serving()
    assert [ask(port, name, "/-/healthy")[0] for name in OWN] == [200] * len(OWN)


def test_a_server_that_others_may_reach_has_whatever_name_they_know(serving: Callable[..., int]) -> None:
    assert ask(serving(is_insecure=True), "node1.example:9796", "/-/healthy")[0] == 200


def test_a_server_that_asks_for_passwords_has_any_name_too(serving: Callable[..., int], tmp_path: Path) -> None:
    config = tmp_path / "web.yml"
    config.write_text(f"basic_auth_users:\n  ada: {bcrypt.hashpw(b'x', bcrypt.gensalt(4)).decode()}\n")
    assert ask(serving(config_file=config), "node1.example:9796", "/-/healthy")[0] == 401


def test_a_server_answers_for_the_names_that_it_was_given(serving: Callable[..., int]) -> None:
    port = serving(allowed_hosts=("kvm.example", "node1"))
    names = ["kvm.example", "KVM.example.:443", "node1:9796", "localhost", "127.0.0.1", "evil.example", "a.kvm.example"]
    assert [ask(port, name, "/-/healthy")[0] for name in names] == [200, 200, 200, 200, 200, 421, 421]
    assert "localhost, kvm.example, node1, addresses" in ask(port, "evil.example", "/metrics")[1]


def test_names_that_were_given_are_those_of_an_open_server_too(serving: Callable[..., int]) -> None:
    port = serving(is_insecure=True, allowed_hosts=("kvm.example",))
    assert [ask(port, name, "/-/healthy")[0] for name in ("kvm.example", "evil.example")] == [200, 421]


@pytest.mark.parametrize(
    "text", ["kvm.example:443", "https://kvm.example", "*.example", "", "a b", ".", "bücher.example"]
)
def test_what_is_no_name_of_a_host_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a name of a host such as"):
        parse_host_name(text)


@pytest.mark.parametrize("name", OWN)
def test_localhost_and_addresses_are_own_names(name: str) -> None:
    assert is_own_name(name)


@pytest.mark.parametrize("name", FOREIGN)
def test_names_that_somebody_else_can_have_are_not(name: str) -> None:
    assert not is_own_name(name)


@given(st.text())
def test_any_text_is_a_name_or_not(text: str) -> None:
    assert is_own_name(text) in {True, False}
