"""Settings: the only reader of the environment."""

import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import HMACAlgorithm
from jwt.exceptions import InvalidKeyError

from tracking.errors import SettingsError

T = TypeVar("T")

SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
KAFKA_PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
SASL_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
# RFC 7518, section 3.2: a key of at least the hash's size, 256 bits for HS256.
MIN_SECRET_BYTES: Final = 32


def _text(value: str) -> str:
    return value


def _list(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not value.isascii() or not value.isdigit() or not low <= int(value) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(value)

    return parse


def _one_of(*choices: str) -> Callable[[str], str]:
    """In any case; the value is as the choice is written here."""
    by_lower_case = {choice.lower(): choice for choice in choices}

    def parse(value: str) -> str:
        if value.lower() not in by_lower_case:
            raise ValueError("one of " + ", ".join(choices))
        return by_lower_case[value.lower()]

    return parse


def _file(value: str) -> str:
    try:
        with Path(value).open("rb"):
            return value
    except OSError as error:
        raise ValueError(f"a readable file ({error.strerror})") from None


def _switch(value: str) -> bool:
    return _one_of("on", "off")(value) == "on"


def _brokers(value: str) -> tuple[str, ...]:
    brokers = _list(value)
    for broker in brokers:
        host, _, port = broker.rpartition(":")
        if not host or not port.isdigit():
            raise ValueError("host:port, several separated by commas")
    if not brokers:
        raise ValueError("at least one host:port")
    return brokers


def _topic_prefix(value: str) -> str:
    if not all(c.isascii() and (c.isalnum() or c in "._-") for c in value) or len(value) > 200:
        raise ValueError("letters, digits, '.', '_' and '-'; empty for bare topic names")
    return value.strip(".")


def _secret_key(value: str) -> str:
    if len(value.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"at least {MIN_SECRET_BYTES} bytes")
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(value)
    except InvalidKeyError:
        raise ValueError("a shared secret, not a public key, certificate or JWK") from None
    return value


def _public_key(value: str) -> str:
    try:
        key = load_pem_public_key(value.strip().encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("a PEM public key (-----BEGIN PUBLIC KEY-----)") from None
    is_p256 = isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)
    if not is_p256 and not isinstance(key, RSAPublicKey):
        raise ValueError("an RSA key for RS256, or one of the curve P-256 for ES256")
    return value.strip()


def _https_url(value: str) -> str:
    if urlsplit(value).scheme != "https" or not urlsplit(value).hostname:
        raise ValueError("an https:// URL")
    return value


def _base_url(value: str) -> str:
    if urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname:
        raise ValueError("an http:// or https:// URL")
    return value.rstrip("/")


def _origins(value: str) -> tuple[str, ...]:
    origins = _list(value)
    for origin in origins:
        parts = urlsplit(origin)
        if origin != "*" and (f"{parts.scheme}://{parts.netloc}" != origin or not parts.hostname):
            raise ValueError("scheme://host[:port], several separated by commas, or *")
    return origins


def _variable(
    default: T, parse: Callable[[str], T], explanation: str, *, secret: bool = False
) -> T:
    metadata = {"parse": parse, "help": explanation, "secret": secret}
    declared: T = field(default=default, metadata=metadata)
    return declared


@dataclass(frozen=True, kw_only=True)
class _EnvironmentSettings:
    """Fields that are read from the variables of their names."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Raises SettingsError with one line for each variable that is wrong."""
        found, problems = {}, []
        for each in fields(cls):
            value = None
            try:
                value = _read(each, environ)
                if value is not None:
                    found[each.name] = each.metadata["parse"](value)
            except (ValueError, OSError) as error:
                problems.append(_problem(each, value or "", error))
        settings = cls(**found)
        # A variable that could not be read is not one that is missing.
        problems = problems or settings.contradictions()
        if problems:
            raise SettingsError("\n".join(problems))
        return settings

    def contradictions(self) -> list[str]:
        """What is wrong with the variables together; one line each."""
        return []

    def masked(self) -> dict[str, object]:
        """For the log: every variable, secrets as *** when they are set."""
        return {
            each.name: "***"
            if _is_secret(each) and getattr(self, each.name)
            else _plain(self, each)
            for each in fields(self)
        }


@dataclass(frozen=True, kw_only=True)
class DatabaseSettings(_EnvironmentSettings):
    """Where PostgreSQL is; all that a migration needs."""

    db_host: str = _variable("localhost", _text, "PostgreSQL's host")
    db_port: int = _variable(5432, _whole(1, 65535), "PostgreSQL's port")
    db_user: str = _variable("postgres", _text, "role that owns the tables")
    db_password: str = _variable("", _text, "its password", secret=True)
    db_name: str = _variable("tracking_db", _text, "database with the PostGIS extension")
    db_ssl_mode: str = _variable("prefer", _one_of(*SSL_MODES), "libpq's sslmode")
    db_ssl_root_cert: str = _variable("", _text, "file with the CA of PostgreSQL's certificate")


@dataclass(frozen=True, kw_only=True)
class KafkaSettings(_EnvironmentSettings):
    """Where Kafka is; all that the tools for dead letters need."""

    kafka_brokers: tuple[str, ...] = _variable(
        ("localhost:9092",), _brokers, "bootstrap brokers, host:port, separated by commas"
    )
    kafka_topic_prefix: str = _variable(
        "kilat-pet-runner", _topic_prefix, "what topic names begin with; empty for bare names"
    )
    kafka_group_id: str = _variable("service-tracking", _text, "consumer group")
    kafka_instance_id: str = _variable(
        "",
        _text,
        "static member name, unique for each process; a restart then keeps its partitions",
    )
    kafka_security_protocol: str = _variable(
        "PLAINTEXT", _one_of(*KAFKA_PROTOCOLS), "one of " + ", ".join(KAFKA_PROTOCOLS)
    )
    kafka_ssl_ca: str = _variable(
        "", _file, "file with the CA of the brokers' certificates; empty for the system's"
    )
    kafka_ssl_cert: str = _variable("", _file, "file with our own certificate, where one is asked")
    kafka_ssl_key: str = _variable("", _file, "file with its private key")
    kafka_sasl_mechanism: str = _variable(
        "SCRAM-SHA-512", _one_of(*SASL_MECHANISMS), "one of " + ", ".join(SASL_MECHANISMS)
    )
    kafka_sasl_username: str = _variable("", _text, "whom SASL lets in")
    kafka_sasl_password: str = _variable("", _text, "the password", secret=True)

    @property
    def uses_tls(self) -> bool:
        return self.kafka_security_protocol.endswith("SSL")

    @property
    def uses_sasl(self) -> bool:
        return self.kafka_security_protocol.startswith("SASL")

    def contradictions(self) -> list[str]:
        problems = []
        name_and_password = (bool(self.kafka_sasl_username), bool(self.kafka_sasl_password))
        if self.uses_sasl and not all(name_and_password):
            problems.append(
                f"KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD: one is not set; both are needed for"
                f" KAFKA_SECURITY_PROTOCOL={self.kafka_security_protocol}"
            )
        if not self.uses_sasl and any(name_and_password):
            problems.append(
                f"KAFKA_SECURITY_PROTOCOL: found {self.kafka_security_protocol!r}, expected"
                " SASL_SSL or SASL_PLAINTEXT, since there is a KAFKA_SASL_ user name or password"
            )
        files = (self.kafka_ssl_ca, self.kafka_ssl_cert, self.kafka_ssl_key)
        if any(files) and not self.uses_tls:
            problems.append(
                f"KAFKA_SECURITY_PROTOCOL: found {self.kafka_security_protocol!r}, expected SSL"
                " or SASL_SSL, since there is a KAFKA_SSL_ file"
            )
        if bool(self.kafka_ssl_cert) != bool(self.kafka_ssl_key):
            problems.append("KAFKA_SSL_CERT, KAFKA_SSL_KEY: one is not set; they belong together")
        return problems

    def topic(self, name: str) -> str:
        """The full name of a topic."""
        return f"{self.kafka_topic_prefix}.{name}" if self.kafka_topic_prefix else name


@dataclass(frozen=True, kw_only=True)
class Settings(KafkaSettings, DatabaseSettings):
    """Everything that a deployment may choose, read once at start."""

    db_pool_size: int = _variable(
        8, _whole(1, 100), "connections for requests; ingest and housekeeping add up to four"
    )
    service_address: str = _variable("", _text, "address to listen on; empty for all")
    service_port: int = _variable(8005, _whole(0, 65535), "port to listen on; 0 for any free one")
    batch_records: int = _variable(
        5000, _whole(1, 100_000), "most records in one transaction; fewer drain a backlog slower"
    )
    jwt_secret: str = _variable("", _secret_key, "shared secret of HS256 tokens", secret=True)
    jwt_public_key: str = _variable(
        "", _public_key, "PEM public key of RS256 or ES256 tokens", secret=True
    )
    jwt_jwks_url: str = _variable("", _https_url, "JWKS with the keys of RS256 or ES256 tokens")
    jwt_issuers: tuple[str, ...] = _variable(
        ("kilat-pet-runner", "service-identity"), _list, "accepted values of the claim iss"
    )
    allowed_origins: tuple[str, ...] = _variable(
        (), _origins, "browser origins for CORS and WebSockets; * for any, empty for no CORS"
    )
    trusted_proxies: tuple[str, ...] = _variable(
        ("127.0.0.1", "::1"), _list, "gateways whose X-Forwarded-For is believed"
    )
    public_url: str = _variable(
        "http://localhost:8005", _base_url, "where clients reach this service; for share links"
    )
    share_link_hours: int = _variable(24, _whole(1, 720), "how long a share link opens a booking")
    max_viewers_per_user: int = _variable(
        50, _whole(0, 1_000_000), "WebSockets of one user at the most; 0 for no limit"
    )
    max_viewers_per_address: int = _variable(
        5_000,
        _whole(0, 1_000_000),
        "WebSockets from one address (or IPv6 /64); 0 for no limit",
    )
    joins_per_second: int = _variable(
        200, _whole(0, 1_000_000), "new WebSockets a second from one address; 0 for no limit"
    )
    max_viewers: int = _variable(
        0, _whole(0, 1_000_000), "WebSockets at the most; 0 for what the descriptor limit allows"
    )
    tracking_updated: bool = _variable(
        True, _switch, "send a tracking.updated event for each waypoint"
    )
    tracking_updated_interval: int = _variable(
        0, _whole(0, 86_400), "seconds of recorded time between a track's tracking.updated; 0: all"
    )
    log_level: str = _variable("info", _one_of(*LOG_LEVELS), "least severe level that is logged")
    log_format: str = _variable("text", _one_of("text", "json"), "one line each, text or json")

    def contradictions(self) -> list[str]:
        keys = [
            name for name in ("jwt_secret", "jwt_public_key", "jwt_jwks_url") if getattr(self, name)
        ]
        problems = super().contradictions()
        if len(keys) == 1:
            return problems
        found = "none is set" if not keys else " and ".join(keys).upper() + " are set"
        return [
            *problems,
            f"JWT_SECRET, JWT_PUBLIC_KEY, JWT_JWKS_URL: {found}; expected exactly one"
            f" (JWT_SECRET: at least {MIN_SECRET_BYTES} bytes, e.g. from `openssl rand -hex 32`)",
        ]


def explain() -> str:
    """One line for each variable, for --help."""
    width = max(len(each.name) for each in fields(Settings))
    return "\n".join(
        f"  {each.name.upper():{width}}  {each.metadata['help']}{_default(each)}"
        for each in fields(Settings)
    )


def _default(each: Field[Any]) -> str:
    if each.default is MISSING or each.default in ("", ()):
        return ""
    shown = ",".join(each.default) if isinstance(each.default, tuple) else each.default
    return f" [{ {True: 'on', False: 'off'}[shown] if isinstance(shown, bool) else shown }]"


def _is_secret(each: Field[Any]) -> bool:
    return bool(each.metadata["secret"])


def _plain(settings: _EnvironmentSettings, each: Field[Any]) -> object:
    value = getattr(settings, each.name)
    return ",".join(value) if isinstance(value, tuple) else value


def _read(each: Field[Any], environ: Mapping[str, str]) -> str | None:
    """The variable's text, from the environment or the file that NAME_FILE names."""
    name = each.name.upper()
    if name in environ:
        # An empty string means unset, except where empty is a value of its own.
        empty_counts = each.name == "kafka_topic_prefix"
        return environ[name] if environ[name] or empty_counts else None
    path = environ.get(f"{name}_FILE")
    if path and _is_secret(each):
        return Path(path).read_text().strip()
    return None


def _problem(each: Field[Any], value: str, error: Exception) -> str:
    name = each.name.upper()
    if isinstance(error, OSError):
        return f"{name}_FILE: {error.strerror}: {error.filename!r}; expected a readable file"
    found = f"{len(value.encode())} bytes" if _is_secret(each) else repr(value)
    return f"{name}: found {found}, expected {error}"
