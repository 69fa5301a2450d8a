"""The file of ``--web.config.file``, as exporters for Prometheus read it: TLS, client certificates, users, headers.

An unknown key is an error, as it is for exporters: a misspelled setting must not leave the server open. Settings that
Python's TLS does not support are refused by name.

Source: exporter-toolkit, docs/web-configuration.md and web/tls_config.go.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias

from ...errors import UsageError
from .yaml_table import YamlTable, read_table

_HEADERS: Final[Mapping[str, frozenset[str]]] = {
    "Strict-Transport-Security": frozenset(),
    "X-Content-Type-Options": frozenset({"nosniff"}),
    "X-Frame-Options": frozenset({"deny", "sameorigin"}),
    "X-XSS-Protection": frozenset(),
    "Content-Security-Policy": frozenset(),
}
"""Headers that the file may set, with their allowed values; an empty set allows any."""

_VERSIONS: Final = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
_CLIENT_AUTH: Final = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_CURVES: Final = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}
_BCRYPT: Final = re.compile(r"\$2[abxy]\$[0-9]{2}\$[./A-Za-z0-9]{53}")
_TLS_13_CIPHERS: Final = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
"""Accepted without effect, as by exporters: TLS 1.3 always offers these ciphers."""
_NS: Final = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_DURATION_PART: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{0,9})?)(ns|us|µs|μs|ms|s|m|h)")
_LONGEST_DURATION_S: Final = 86_400.0


Pem: TypeAlias = Path | str
"""The path of a file, or its text if the web configuration has it inline."""


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """``tls_server_config``. Paths are relative to the file's directory. ``ciphers``: OpenSSL's names, for TLS 1.2.

    ``client_ca``: None for the certificate authorities that this host trusts.
    """

    cert: Pem
    key: Pem
    client_auth: ssl.VerifyMode = ssl.CERT_NONE
    client_ca: Pem | None = None
    client_allowed_sans: frozenset[str] = frozenset()
    min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    max_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ciphers: tuple[str, ...] = ()
    curve: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files whose change means new certificates."""
        return tuple(part for part in (self.cert, self.key, self.client_ca) if isinstance(part, Path))

    @property
    def knows_clients(self) -> bool:
        """Whether clients need a certificate of a chosen authority, or for a chosen name."""
        return self.client_auth is ssl.CERT_REQUIRED and (self.client_ca is not None or bool(self.client_allowed_sans))


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One request per ``interval_s`` seconds on average, and at most ``burst`` at once."""

    interval_s: float
    burst: int


@dataclass(frozen=True, slots=True)
class WebConfig:
    """The whole file. ``users``: bcrypt hashes by name. ``headers``: added to every response."""

    tls: TlsSettings | None = None
    users: Mapping[str, bytes] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    rate_limit: RateLimit | None = None

    @property
    def knows_clients(self) -> bool:
        """Whether every client needs a password or a certificate."""
        return bool(self.users) or (self.tls is not None and self.tls.knows_clients)


ConfigSource = Callable[[], WebConfig]
"""Returns the configuration in force."""


def read_web_config(path: Path) -> WebConfig:
    """The file at ``path``. Raises UsageError if it cannot be read or has an invalid or unsupported setting."""
    root = read_table(path)
    root.allow("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit")
    http = root.table("http_server_config")
    http.allow("http2", "headers")
    http.flag("http2", default=True)  # this server speaks HTTP/1.1, which every client of HTTP/2 accepts
    return WebConfig(
        tls=_tls(root.table("tls_server_config")),
        users={name: _hash(root, name, text) for name, text in root.table("basic_auth_users").texts().items()},
        headers=_headers(http.table("headers")),
        rate_limit=_rate_limit(root.table("rate_limit")),
    )


def _headers(table: YamlTable) -> Mapping[str, str]:
    table.allow(*_HEADERS)
    headers = {name: text for name, text in table.texts().items() if text}
    for name, text in headers.items():
        if _HEADERS[name] and text not in _HEADERS[name]:
            raise table.error(name, f"{text!r} is not possible; there are {', '.join(sorted(_HEADERS[name]))}")
    return headers


def _tls(table: YamlTable) -> TlsSettings | None:
    """The TLS settings; None if the file does not mention certificates, which means plain HTTP."""
    table.allow(
        "cert", "key", "client_ca", "cert_file", "key_file", "client_auth_type", "client_ca_file",
        "client_allowed_sans", "min_version", "max_version", "cipher_suites", "curve_preferences",
        "prefer_server_cipher_suites",
    )  # fmt: skip
    table.flag("prefer_server_cipher_suites", default=True)
    parts = ("cert", "key", "client_ca", "cert_file", "key_file", "client_ca_file", "client_auth_type")
    if not any(map(table.has, parts)):
        return None
    auth = table.choice("client_auth_type", _CLIENT_AUTH, "NoClientCert")
    client_ca = _pem(table, "client_ca") if table.has("client_ca") or table.has("client_ca_file") else None
    sans = frozenset(table.strings("client_allowed_sans"))
    if client_ca is not None and auth is ssl.CERT_NONE:
        raise table.error("client_ca_file", "needs a client_auth_type that verifies certificates")
    if table.has("client_allowed_sans") and auth is not ssl.CERT_REQUIRED:
        raise table.error("client_allowed_sans", "needs client_auth_type: RequireAndVerifyClientCert")
    curves = table.strings("curve_preferences")
    if len(curves) > 1 or any(curve not in _CURVES for curve in curves):
        raise table.error("curve_preferences", f"takes one of {', '.join(_CURVES)} here")
    ciphers = [name for name in table.strings("cipher_suites") if name not in _TLS_13_CIPHERS]
    return TlsSettings(
        cert=_pem(table, "cert"),
        key=_pem(table, "key"),
        client_auth=auth,
        client_ca=client_ca,
        client_allowed_sans=sans,
        min_version=table.choice("min_version", _VERSIONS, "TLS12"),
        max_version=table.choice("max_version", _VERSIONS, "TLS13"),
        ciphers=tuple(_cipher(table, name) for name in ciphers),
        curve=_CURVES[curves[0]] if curves else None,
    )


def _pem(table: YamlTable, key: str) -> Pem:
    """The path in ``key_file``, else the text in ``key``."""
    return table.text(key) if table.has(key) and not table.has(f"{key}_file") else table.path(f"{key}_file")


def _cipher(table: YamlTable, name: str) -> str:
    """``TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`` -> ``ECDHE-RSA-AES128-GCM-SHA256``, if OpenSSL here has it."""
    found = name.removeprefix("TLS_").replace("_WITH_", "_").removesuffix("_SHA256" if "POLY1305" in name else "\0")
    found = found.replace("_CBC_", "_")
    openssl = re.sub(r"AES_(128|256)", r"AES\1", found).replace("_", "-").removeprefix("RSA-")
    if openssl not in _openssl_names():
        raise table.error("cipher_suites", f"there is no cipher suite {name!r} of TLS 1.2 here")
    return openssl


@cache
def _openssl_names() -> frozenset[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL")
    return frozenset(cipher["name"] for cipher in context.get_ciphers())


def _hash(root: YamlTable, name: str, text: str) -> bytes:
    if not _BCRYPT.fullmatch(text):
        raise root.error(
            "basic_auth_users", f"the password of {name!r} is not a bcrypt hash; make one by: htpasswd -nB"
        )
    return text.encode()


def _rate_limit(table: YamlTable) -> RateLimit | None:
    table.allow("interval", "burst")
    text = table.text("interval") or "0"
    interval_s = _duration_s(text)
    if interval_s is None or interval_s > _LONGEST_DURATION_S:
        raise table.error("interval", f"{text!r} is not a time such as 100ms or 1s")
    burst = table.text("burst") or "0"
    if re.fullmatch("[0-9]{1,9}", burst) is None:
        raise table.error("burst", f"expected a whole number, found {burst!r}")
    return RateLimit(interval_s, int(burst)) if interval_s else None


def _duration_s(text: str) -> float | None:
    """The seconds of ``1m30s`` or of a number of nanoseconds, as Go reads durations; None for any other text."""
    if re.fullmatch("[0-9]{1,18}", text):
        return int(text) / 1e9
    parts = _DURATION_PART.findall(text)
    if "".join(map("".join, parts)) != text:
        return None
    return sum(float(number) * _NS[unit] for number, unit in parts) / 1e9


class WatchedConfig:
    """The file, reread when it changed. If it becomes invalid, the last valid version stays in force."""

    def __init__(
        self,
        path: Path,
        *,
        on_error: Callable[[UsageError], None] = lambda _error: None,
        check: Callable[[WebConfig], None] = lambda _config: None,
    ) -> None:
        """``check`` raises UsageError for a valid file that must not take effect."""
        self._path = path
        self._on_error = on_error
        self._check = check
        self._config = read_web_config(path)
        check(self._config)
        self._stamp = file_stamp([path])

    @property
    def current(self) -> WebConfig:
        stamp = file_stamp([self._path])
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                config = read_web_config(self._path)
                self._check(config)
                self._config = config
            except UsageError as error:
                self._on_error(error)
        return self._config


def file_stamp(paths: list[Path] | tuple[Path, ...]) -> tuple[tuple[int, int, int] | None, ...]:
    """A value that changes if one of these files is written or replaced."""
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            status = path.stat()
            found.append((status.st_ino, status.st_mtime_ns, status.st_size))
        except OSError:
            found.append(None)
    return tuple(found)
