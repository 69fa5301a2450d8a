"""The file of ``--web.config.file``, as Prometheus' exporters read it: TLS, client certificates, users, headers.

A key that is not known is an error, as it is for exporters: a setting that is spelt wrong must not be an open door.
What Python's TLS cannot do is refused by name.

Source: exporter-toolkit, docs/web-configuration.md and web/tls_config.go.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

from ...errors import UsageError

_HEADERS: Final = (
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
    "Content-Security-Policy",
)
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
_LONGEST_DURATION_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """``tls_server_config``. Paths are as seen from the file's folder. ``ciphers``: OpenSSL's names, of TLS 1.2."""

    cert_file: Path
    key_file: Path
    client_auth: ssl.VerifyMode = ssl.CERT_NONE
    client_ca_file: Path | None = None
    client_allowed_sans: frozenset[str] = frozenset()
    min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    max_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ciphers: tuple[str, ...] = ()
    curve: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All that a change of is a change of certificates."""
        return tuple(path for path in (self.cert_file, self.key_file, self.client_ca_file) if path is not None)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One request each ``interval_s`` seconds on average, and ``burst`` at once."""

    interval_s: float
    burst: int


@dataclass(frozen=True, slots=True)
class WebConfig:
    """The whole file. ``users``: name and bcrypt hash. ``headers``: added to every answer."""

    tls: TlsSettings | None = None
    users: Mapping[str, bytes] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    rate_limit: RateLimit | None = None

    @property
    def knows_clients(self) -> bool:
        """Whether nobody is answered without a password or a certificate."""
        return bool(self.users) or (self.tls is not None and self.tls.client_auth is ssl.CERT_REQUIRED)


ConfigSource = Callable[[], WebConfig]
"""Gives the configuration that is in force."""


def read_web_config(path: Path) -> WebConfig:
    """The file at ``path``. Raises UsageError if it cannot be read or says something that cannot be done."""
    import yaml

    try:
        parsed = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    root = _Table(path, "", {} if parsed is None else parsed)
    root.allow("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit")
    http = root.table("http_server_config")
    http.allow("http2", "headers")
    http.value("http2", bool, True)  # this server speaks HTTP/1.1, which every client of HTTP/2 accepts
    headers = http.table("headers")
    headers.allow(*_HEADERS)
    return WebConfig(
        tls=_tls(root.table("tls_server_config")) if root.has("tls_server_config") else None,
        users={name: _hash(root, name, text) for name, text in root.table("basic_auth_users").texts().items()},
        headers=headers.texts(),
        rate_limit=_rate_limit(root.table("rate_limit")) if root.has("rate_limit") else None,
    )


def _tls(table: _Table) -> TlsSettings:
    table.allow(
        "cert_file", "key_file", "client_auth_type", "client_ca_file", "client_allowed_sans", "min_version",
        "max_version", "cipher_suites", "curve_preferences", "prefer_server_cipher_suites",
    )  # fmt: skip
    table.value("prefer_server_cipher_suites", bool, True)
    auth = table.choice("client_auth_type", _CLIENT_AUTH, "NoClientCert")
    ca_file = table.path("client_ca_file") if table.has("client_ca_file") else None
    sans = frozenset(table.strings("client_allowed_sans"))
    if auth is not ssl.CERT_NONE and ca_file is None:
        raise table.error("client_ca_file", "is needed to verify client certificates")
    if sans and auth is not ssl.CERT_REQUIRED:
        raise table.error("client_allowed_sans", "needs client_auth_type: RequireAndVerifyClientCert")
    curves = table.strings("curve_preferences")
    if len(curves) > 1 or any(curve not in _CURVES for curve in curves):
        raise table.error("curve_preferences", f"takes one of {', '.join(_CURVES)} here")
    return TlsSettings(
        cert_file=table.path("cert_file"),
        key_file=table.path("key_file"),
        client_auth=auth,
        client_ca_file=ca_file,
        client_allowed_sans=sans,
        min_version=table.choice("min_version", _VERSIONS, "TLS12"),
        max_version=table.choice("max_version", _VERSIONS, "TLS13"),
        ciphers=tuple(_cipher(table, name) for name in table.strings("cipher_suites")),
        curve=_CURVES[curves[0]] if curves else None,
    )


def _cipher(table: _Table, name: str) -> str:
    """``TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`` -> ``ECDHE-RSA-AES128-GCM-SHA256``, if OpenSSL here has it."""
    found = name.removeprefix("TLS_").replace("_WITH_", "_").removesuffix("_SHA256" if "POLY1305" in name else "\0")
    openssl = re.sub(r"AES_(128|256)", r"AES\1", found).replace("_", "-").removeprefix("RSA-")
    if openssl not in _openssl_names():
        raise table.error("cipher_suites", f"there is no cipher suite {name!r} of TLS 1.2 here")
    return openssl


@cache
def _openssl_names() -> frozenset[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL")
    return frozenset(cipher["name"] for cipher in context.get_ciphers())


def _hash(root: _Table, name: str, text: str) -> bytes:
    if not _BCRYPT.fullmatch(text):
        raise root.error(
            "basic_auth_users", f"the password of {name!r} is not a bcrypt hash; make one by: htpasswd -nB"
        )
    return text.encode()


def _rate_limit(table: _Table) -> RateLimit | None:
    table.allow("interval", "burst")
    text = table.value("interval", str, "0s")
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)", text)
    interval_s = float(match[1]) * {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}[match[2]] if match else -1.0
    if not 0 <= interval_s <= _LONGEST_DURATION_S:
        raise table.error("interval", f"{text!r} is not a time such as 100ms or 1s")
    burst = table.value("burst", int, 1)
    if burst < 1:
        raise table.error("burst", "expected a whole number from 1 on")
    return RateLimit(interval_s, burst) if interval_s else None


T = TypeVar("T")


class _Table:
    """A mapping of the file, which names the place of a mistake."""

    def __init__(self, file: Path, name: str, content: Any) -> None:
        self._file = file
        self._name = name
        if content is None:
            content = {}
        if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
            raise UsageError(f"{file}: {name or 'the file'}: expected names with values")
        self._content: dict[str, Any] = content

    def error(self, key: str, text: str) -> UsageError:
        return UsageError(f"{self._file}: {f'{self._name}.' if self._name else ''}{key}: {text}")

    def allow(self, *keys: str) -> None:
        for key in self._content:
            if key not in keys:
                raise self.error(key, f"not known; there are {', '.join(keys)}")

    def has(self, key: str) -> bool:
        return self._content.get(key) is not None

    def table(self, key: str) -> _Table:
        return _Table(self._file, key, self._content.get(key))

    def value(self, key: str, kind: type[T], default: T) -> T:
        found = self._content.get(key)
        if found is None:
            return default
        if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
            raise self.error(key, f"expected {kind.__name__}, found {found!r}")
        return found

    def texts(self) -> dict[str, str]:
        return {key: self.value(key, str, "") for key in self._content}

    def strings(self, key: str) -> list[str]:
        found = self.value(key, list, [])
        if not all(isinstance(each, str) for each in found):
            raise self.error(key, "expected a list of words")
        return found

    def choice(self, key: str, choices: Mapping[str, T], default: str) -> T:
        word = self.value(key, str, "") or default
        if word not in choices:
            raise self.error(key, f"{word!r} is not possible here; there are {', '.join(choices)}")
        return choices[word]

    def path(self, key: str) -> Path:
        text = self.value(key, str, "")
        if not text:
            raise self.error(key, "is missing")
        return self._file.parent / text


class WatchedConfig:
    """The file, read again when it changed. A file that became wrong leaves the last right one in force."""

    def __init__(self, path: Path, *, on_error: Callable[[UsageError], None] = lambda _error: None) -> None:
        self._path = path
        self._on_error = on_error
        self._config = read_web_config(path)
        self._stamp = file_stamp([path])

    @property
    def current(self) -> WebConfig:
        stamp = file_stamp([self._path])
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._config = read_web_config(self._path)
            except UsageError as error:
                self._on_error(error)
        return self._config


def file_stamp(paths: list[Path] | tuple[Path, ...]) -> tuple[tuple[int, int, int] | None, ...]:
    """What changes if one of these files is written or replaced."""
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            status = path.stat()
            found.append((status.st_ino, status.st_mtime_ns, status.st_size))
        except OSError:
            found.append(None)
    return tuple(found)
