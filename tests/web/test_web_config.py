"""The file of --web.config.file: what exporters take is taken, what is not known or cannot be done is an error."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from kvmscope.errors import UsageError
from kvmscope.web.server.web_config import RateLimit, WatchedConfig, read_web_config

HASH = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi"


def written(folder: Path, text: str) -> Path:
    path = folder / "web.yml"
    path.write_text(text, encoding="utf-8")
    return path


def test_everything_that_exporters_document_is_read(tmp_path: Path) -> None:
    config = read_web_config(
        written(
            tmp_path,
            f"""
tls_server_config:
  cert_file: tls/server.crt
  key_file: /etc/server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans: [prometheus.example, 10.0.0.7]
  min_version: TLS13
  max_version: TLS13
  cipher_suites:
  - TLS_AES_128_GCM_SHA256
  - TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
  - TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
  - TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA
  curve_preferences: [CurveP256]
  prefer_server_cipher_suites: true
http_server_config:
  http2: true
  headers:
    Strict-Transport-Security: max-age=31536000
basic_auth_users:
  alice: {HASH}
rate_limit:
  interval: 100ms
  burst: 20
""",
        )
    )
    assert config.tls is not None
    assert config.tls.cert == tmp_path / "tls/server.crt", "relative to the file"
    assert config.tls.key == Path("/etc/server.key")
    assert config.tls.client_auth is ssl.CERT_REQUIRED
    assert config.tls.client_allowed_sans == {"prometheus.example", "10.0.0.7"}
    assert config.tls.min_version is ssl.TLSVersion.TLSv1_3
    assert config.tls.ciphers == (
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-AES256-SHA",
    ), "those of TLS 1.3 cannot be chosen"
    assert (config.tls.curve, config.rate_limit) == ("prime256v1", RateLimit(0.1, 20))
    assert config.users == {"alice": HASH.encode()}
    assert config.headers == {"Strict-Transport-Security": "max-age=31536000"}
    assert config.knows_clients


@pytest.mark.parametrize("text", ["", "{}", "tls_server_config:\nbasic_auth_users:\n"])
def test_an_empty_file_protects_nothing(tmp_path: Path, text: str) -> None:
    config = read_web_config(written(tmp_path, text))
    assert not config.knows_clients
    assert config.tls is None


def test_certificates_can_stand_in_the_file(tmp_path: Path) -> None:
    tls = read_web_config(
        written(
            tmp_path,
            """
tls_server_config:
  cert: |
    -----BEGIN CERTIFICATE-----
  key: the key
  client_ca: an authority
  client_ca_file: authorities.pem
  client_auth_type: VerifyClientCertIfGiven
""",
        )
    ).tls
    assert tls is not None
    assert (tls.cert, tls.key) == ("-----BEGIN CERTIFICATE-----\n", "the key")
    assert tls.client_ca == tmp_path / "authorities.pem", "the file is taken where both are there"


@pytest.mark.parametrize(
    "text", ["tls_server_config: {}", "tls_server_config: {min_version: TLS13, cipher_suites: []}"]
)
def test_tls_without_certificates_is_plain_http(tmp_path: Path, text: str) -> None:
    assert read_web_config(written(tmp_path, text)).tls is None


def test_values_are_the_text_that_stands_there(tmp_path: Path) -> None:
    text = (
        f"http_server_config: {{headers: {{X-XSS-Protection: 1, X-Frame-Options: }}}}\nbasic_auth_users: {{7: {HASH}}}"
    )
    config = read_web_config(written(tmp_path, text))
    assert config.headers == {"X-XSS-Protection": "1"}, "a blank header is not set"
    assert set(config.users) == {"7"}


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("{interval: 0, burst: 0}", None),
        ("{burst: 5}", None),
        ("{interval: 1s, burst: 0}", RateLimit(1.0, 0)),
        ("{interval: 1m30s, burst: 3}", RateLimit(90.0, 3)),
        ("{interval: 1.5s, burst: 3}", RateLimit(1.5, 3)),
        ("{interval: 250000000, burst: 3}", RateLimit(0.25, 3)),
    ],
)
def test_times_are_those_of_go(tmp_path: Path, text: str, limit: RateLimit | None) -> None:
    assert read_web_config(written(tmp_path, f"rate_limit: {text}")).rate_limit == limit


def test_certificates_of_any_authority_do_not_say_who_a_client_is(tmp_path: Path) -> None:
    tls = "cert_file: c, key_file: k, client_auth_type: RequireAndVerifyClientCert"
    for more, is_known in (("", False), (", client_ca_file: ca", True), (", client_allowed_sans: [a]", True)):
        config = read_web_config(written(tmp_path, f"tls_server_config: {{{tls}{more}}}"))
        assert config.knows_clients is is_known


TLS = "tls_server_config: {cert_file: c, key_file: k, "


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("basic_auth_user: {a: b}", "basic_auth_user"),
        ("basic_auth_users: {alice: secret}", "bcrypt"),
        ("basic_auth_users: [alice]", "basic_auth_users"),
        ("tls_server_config: {cert_file: c}", "key_file"),
        (TLS + "client_auth_type: RequireAnyClientCert}", "client_auth_type"),
        (TLS + "client_ca_file: ca}", "client_ca_file"),
        (TLS + "client_auth_type: RequestClientCert}", "client_auth_type"),
        ("tls_server_config: {client_auth_type: NoClientCert}", "cert_file"),
        ("tls_server_config: {cert_file: c, key: }", "key_file"),
        (TLS + "client_allowed_sans: [a]}", "client_allowed_sans"),
        (TLS + "min_version: SSL30}", "min_version"),
        (TLS + "cipher_suites: [TLS_NULL]}", "TLS_NULL"),
        (TLS + "curve_preferences: [CurveP256, CurveP384]}", "curve_preferences"),
        (TLS + "min_versoin: TLS12}", "min_versoin"),
        ("http_server_config: {headers: {X-Other: a}}", "X-Other"),
        ("http_server_config: {http2: maybe}", "http2"),
        ("rate_limit: {interval: soon}", "interval"),
        ("rate_limit: {interval: -1s, burst: 1}", "interval"),
        ("rate_limit: {interval: 1s, burst: many}", "burst"),
        ("http_server_config: {headers: {X-Frame-Options: allow}}", "deny, sameorigin"),
        ("http_server_config: {headers: {X-Content-Type-Options: sniff}}", "nosniff"),
        (f"basic_auth_users: {{alice: {HASH}, alice: {HASH}}}", "alice appears twice"),
        ("- a", "the file"),
        ("a: [", "not YAML"),
        ("a: !!python/object/apply:os.system [id]", "a: not known"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_served(tmp_path: Path, text: str, where: str) -> None:
    with pytest.raises(UsageError, match=where):
        read_web_config(written(tmp_path, text))


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_web_config(tmp_path / "nothing.yml")


def test_a_change_holds_at_once_and_a_mistake_leaves_the_last_right_file_in_force(tmp_path: Path) -> None:
    errors: list[UsageError] = []
    path = written(tmp_path, f"basic_auth_users: {{alice: {HASH}}}")
    watched = WatchedConfig(path, on_error=errors.append)
    written(tmp_path, f"basic_auth_users: {{bob: {HASH}, carol: {HASH}}}")
    assert set(watched.current.users) == {"bob", "carol"}
    written(tmp_path, "basic_auth_users: {")
    assert set(watched.current.users) == {"bob", "carol"}
    assert len(errors) == 1
