"""Who is let in: passwords, certificates, headers and rates, over real connections."""

from __future__ import annotations

import base64
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from crafted import Crafted, ListSource

from kvmscope.cli.serve import command
from kvmscope.collect import Host
from kvmscope.errors import Unavailable, UsageError
from kvmscope.export.exposition import ExportOptions
from kvmscope.web.server.auth import TokenBucket
from kvmscope.web.server.listen import ListenAddress, parse_address, systemd_sockets
from kvmscope.web.server.run import MonitorServer, ServerPlan
from kvmscope.web.server.web_config import RateLimit

PASSWORD = "pässword"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def status(url: str, headers: dict[str, str] | None = None, context: ssl.SSLContext | None = None) -> int:
    request = urllib.request.Request(url, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:
            found: int = answer.status
            return found
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.fixture
def serving(crafted: Crafted, tmp_path: Path) -> Any:
    """The URL of a server with this web configuration, which can be written again under the path that comes with it."""

    @contextmanager
    def start(config: str, scheme: str = "http") -> Iterator[tuple[str, Path]]:
        path = tmp_path / "web.yml"
        path.write_text(config, encoding="utf-8")
        plan = ServerPlan((ListenAddress("127.0.0.1", 0),), 3600.0, ExportOptions(), config_file=path)
        server = MonitorServer(plan, on_error=lambda _error: None)
        try:
            server.open(lambda: Host(ListSource([crafted.before]), {}, machine=crafted.machine))
            (note,) = [note for note in server.notes if note.startswith(f"serving at {scheme}://")]
            yield note.removeprefix("serving at "), path
        finally:
            server.close()

    return start


@pytest.mark.parametrize("path", ["", "metrics", "api/v1/summary", "api/v1/events", "assets/page.js", "-/healthy", "x"])
def test_nothing_is_answered_without_the_right_password(serving: Any, path: str) -> None:
    with serving(f"basic_auth_users: {{alice: {HASH}}}") as (url, _):
        for headers in (
            {},
            basic("alice", "wrong"),
            basic("bob", PASSWORD),
            basic("", ""),
            {"Authorization": "Basic %"},
        ):
            assert status(url + path, headers) == 401


def test_the_right_password_is_let_in_and_another_not_after_it(serving: Any) -> None:
    with serving(f"basic_auth_users: {{alice: {HASH}}}") as (url, path):
        assert status(url + "metrics", basic("alice", PASSWORD)) == 200
        assert status(url + "metrics", basic("alice", PASSWORD + "x")) == 401
        assert status(url + "metrics", basic("alice", "y" * 100)) == 401
        other = bcrypt.hashpw(b"new", bcrypt.gensalt(4)).decode()
        path.write_text(f"basic_auth_users: {{alice: {other}}}", encoding="utf-8")
        assert status(url + "metrics", basic("alice", PASSWORD)) == 401, "the file is read again"
        assert status(url + "metrics", basic("alice", "new")) == 200


def test_headers_of_the_file_win_over_ours(serving: Any) -> None:
    config = "http_server_config: {headers: {X-Frame-Options: deny, Content-Security-Policy: sandbox}}"
    with serving(config) as (url, _), urllib.request.urlopen(url, timeout=20) as answer:
        assert answer.headers["X-Frame-Options"] == "deny"
        assert answer.headers.get_all("Content-Security-Policy") == ["sandbox"]


def test_requests_beyond_the_rate_are_refused(serving: Any) -> None:
    with serving("rate_limit: {interval: 1h, burst: 2}") as (url, _):
        assert [status(url + "-/healthy") for _ in range(3)] == [200, 200, 429]


def test_a_bucket_fills_with_time() -> None:
    now = [0.0]
    bucket, limit = TokenBucket(lambda: now[0]), RateLimit(10.0, 2)
    assert [bucket.take(limit) for _ in range(3)] == [True, True, False]
    now[0] = 10.0
    assert [bucket.take(limit) for _ in range(2)] == [True, False]
    now[0] = 1000.0
    assert [bucket.take(limit) for _ in range(3)] == [True, True, False]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CA, a server's and a client's certificate, made by openssl."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=ca", "-days", "2")
    for name, alternative in (("server", "IP:127.0.0.1"), ("second", "IP:127.0.0.1"), ("client", "DNS:prometheus")):
        (folder / "ext").write_text(f"subjectAltName={alternative}\n", encoding="utf-8")
        openssl("req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signing = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "ext")
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.crt", *signing)
    return folder


def trusting(folder: Path, client: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    if client is not None:
        context.load_cert_chain(folder / f"{client}.crt", folder / f"{client}.key")
    return context


def subject(url: str, folder: Path) -> str:
    host, port = url.removeprefix("https://").rstrip("/").split(":")
    with (
        socket.create_connection((host, int(port)), 20) as raw,
        trusting(folder).wrap_socket(raw, server_hostname=host) as secured,
    ):
        certificate: Any = secured.getpeercert()
    return str(dict(pair for part in certificate["subject"] for pair in part)["commonName"])


def test_a_certificate_that_was_replaced_holds_for_the_next_connection(
    serving: Any, certificates: Path, tmp_path: Path
) -> None:
    for kind in ("crt", "key"):
        (tmp_path / f"live.{kind}").write_bytes((certificates / f"server.{kind}").read_bytes())
    with serving("tls_server_config: {cert_file: live.crt, key_file: live.key}", "https") as (url, _):
        assert status(url + "metrics", context=trusting(certificates)) == 200
        assert subject(url, certificates) == "server"
        for kind in ("crt", "key"):
            (tmp_path / f"live.{kind}").write_bytes((certificates / f"second.{kind}").read_bytes())
        assert subject(url, certificates) == "second"


def test_certificates_inside_the_file_are_as_good(serving: Any, certificates: Path) -> None:
    def text(name: str) -> str:
        return "|\n    " + (certificates / name).read_text(encoding="ascii").replace("\n", "\n    ")

    config = f"""
tls_server_config:
  cert: {text("server.crt")}
  key: {text("server.key")}
  client_ca: {text("ca.crt")}
  client_auth_type: RequireAndVerifyClientCert
"""
    with serving(config, "https") as (url, _):
        assert status(url + "metrics", context=trusting(certificates, "client")) == 200
        with pytest.raises((OSError, ssl.SSLError)):
            status(url + "metrics", context=trusting(certificates))


def mutual(folder: Path, sans: str) -> str:
    return (
        f"tls_server_config: {{cert_file: {folder}/server.crt, key_file: {folder}/server.key, "
        f"client_auth_type: RequireAndVerifyClientCert, client_ca_file: {folder}/ca.crt{sans}}}"
    )


def test_who_has_no_certificate_of_the_authority_is_not_let_in(serving: Any, certificates: Path) -> None:
    with serving(mutual(certificates, ""), "https") as (url, _):
        assert status(url + "metrics", context=trusting(certificates, "client")) == 200
        with pytest.raises((OSError, ssl.SSLError)):
            status(url + "metrics", context=trusting(certificates))


def test_only_clients_with_an_allowed_name_are_let_in(serving: Any, certificates: Path) -> None:
    with serving(mutual(certificates, ", client_allowed_sans: [prometheus]"), "https") as (url, _):
        assert status(url + "metrics", context=trusting(certificates, "client")) == 200
        with pytest.raises(OSError, match=r"."):
            status(url + "metrics", context=trusting(certificates, "second"))


@pytest.mark.parametrize("address", [":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:80", "example.org:80"])
def test_an_address_that_others_reach_is_refused_without_protection(address: str, tmp_path: Path) -> None:
    config = tmp_path / "web.yml"
    config.write_text("http_server_config: {http2: true}", encoding="utf-8")
    for file in (None, config):
        plan = ServerPlan((parse_address(address),), 1.0, ExportOptions(), config_file=file)
        with pytest.raises(UsageError, match=r"--web\.config\.file"):
            MonitorServer(plan, on_error=lambda _error: None)


def test_a_file_that_would_open_the_door_does_not_hold(certificates: Path, crafted: Crafted, tmp_path: Path) -> None:
    config, errors = tmp_path / "web.yml", list[str]()
    config.write_text(f"basic_auth_users: {{alice: {HASH}}}", encoding="utf-8")
    plan = ServerPlan((ListenAddress("0.0.0.0", 0),), 3600.0, ExportOptions(), config_file=config)
    server = MonitorServer(plan, on_error=lambda error: errors.append(str(error)))
    try:
        server.open(lambda: Host(ListSource([crafted.before]), {}, machine=crafted.machine))
        url = server.notes[-1].removeprefix("serving at ").replace("0.0.0.0", "127.0.0.1")
        assert status(url) == 401
        for wrong in ("", "rate_limit: {interval: 1s, burst: 9}", mutual(certificates, "")):
            config.write_text(wrong, encoding="utf-8")
            assert status(url) == 401
            assert status(url, basic("alice", PASSWORD)) == 200, "the last right file is in force"
        assert [error.partition(":")[0] for error in errors] == [
            "other hosts can reach 0.0.0.0",
            "other hosts can reach 0.0.0.0",
            "TLS can be turned on or off only when the server starts",
        ]
    finally:
        server.close()


def test_vm_sockets_are_listened_at_and_refused_without_protection(crafted: Crafted) -> None:
    address = parse_address("vsock://:31796")
    with pytest.raises(UsageError, match="vsock://:31796"):
        MonitorServer(ServerPlan((address,), 1.0, ExportOptions()), on_error=lambda _error: None)
    plan = ServerPlan((address, ListenAddress("127.0.0.1", 0)), 3600.0, ExportOptions(), is_insecure=True)
    server = MonitorServer(plan, on_error=lambda _error: None)
    try:
        server.open(lambda: Host(ListSource([crafted.before]), {}, machine=crafted.machine))
        assert "serving at vsock://:31796" in server.notes
        assert status(server.notes[-1].removeprefix("serving at ")) == 200, "several addresses"
        _ask_over_vsock(31796)
    except Unavailable as error:
        pytest.skip(f"no VM sockets here: {error}")
    finally:
        server.close()


def _ask_over_vsock(port: int) -> None:
    """Over the loopback of VM sockets, where the kernel has it: CID 1."""
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as client:
        client.settimeout(2)
        try:
            client.connect((1, port))
        except OSError:
            return
        client.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"])
def test_loopback_needs_no_protection(address: str) -> None:
    assert parse_address(address).is_loopback


def test_an_address_of_one_link_has_its_interface() -> None:
    address = parse_address("[fe80::1%eth0]:9796")
    assert (str(address), address.is_loopback) == ("[fe80::1%eth0]:9796", False)


@pytest.mark.parametrize(
    "text", ["", "9796", "::1:80", "a:b", "127.0.0.1:70000", "[::1]", "http://a:1", "a:1/", "vsock://", "vsock://:x"]
)
def test_what_is_not_an_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_address(text)


def test_sockets_of_systemd_are_refused_where_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "1")
    with pytest.raises(UsageError, match="systemd"):
        systemd_sockets()


def test_the_command_has_the_flags_of_exporters() -> None:
    flags = {flag for param in command.params for flag in param.opts}
    assert {"--web.listen-address", "--web.config.file", "--web.systemd-socket"} <= flags
