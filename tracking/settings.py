"""Settings: all that a deployment may choose, read once at start from the environment."""

from dataclasses import dataclass
from typing import ClassVar, Final

from tracking.access_settings import AccessSettings
from tracking.environment import EnvironmentSettings, variable
from tracking.limit_settings import LimitSettings
from tracking.page_settings import PageSettings
from tracking.receipt_settings import ReceiptSettings
from tracking.route_settings import RouteSettings
from tracking.setting_values import (
    MIN_SECRET_BYTES,
    Network,
    address,
    base_url,
    brokers,
    https_url,
    items,
    networks,
    one_of,
    optional_port,
    origins,
    otlp_endpoint,
    public_key,
    readable_file,
    secret_key,
    switch,
    text,
    topic_prefix,
    whole,
)

SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
KAFKA_PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
SASL_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")


@dataclass(frozen=True, kw_only=True)
class DatabaseSettings(EnvironmentSettings):
    """Where PostgreSQL is; all that a migration needs."""

    db_host: str = variable("localhost", text, "PostgreSQL's host")
    db_port: int = variable(5432, whole(1, 65535), "PostgreSQL's port")
    db_user: str = variable("postgres", text, "role that owns the tables")
    db_password: str = variable("", text, "its password", secret=True)
    db_name: str = variable("tracking_db", text, "database with the PostGIS extension")
    db_ssl_mode: str = variable("prefer", one_of(*SSL_MODES), "libpq's sslmode")
    db_ssl_root_cert: str = variable("", text, "file with the CA of PostgreSQL's certificate")
    db_pooler: str = variable(
        "", address, "host:port of a PgBouncer for what serves clients; empty for none"
    )


@dataclass(frozen=True, kw_only=True)
class KafkaSettings(EnvironmentSettings):
    """Where Kafka is; all that the tools for dead letters need."""

    kafka_brokers: tuple[str, ...] = variable(
        ("localhost:9092",), brokers, "bootstrap brokers, host:port, separated by commas"
    )
    kafka_topic_prefix: str = variable(
        "kilat-pet-runner",
        topic_prefix,
        "what topic names begin with; empty for bare names",
        may_be_empty=True,
    )
    kafka_group_id: str = variable("service-tracking", text, "consumer group")
    kafka_instance_id: str = variable(
        "",
        text,
        "static member name, unique for each process; a restart then keeps its partitions",
    )
    kafka_security_protocol: str = variable(
        "PLAINTEXT", one_of(*KAFKA_PROTOCOLS), "one of " + ", ".join(KAFKA_PROTOCOLS)
    )
    kafka_ssl_ca: str = variable(
        "", readable_file, "file with the CA of the brokers' certificates; empty for the system's"
    )
    kafka_ssl_cert: str = variable(
        "", readable_file, "file with our own certificate, where one is asked"
    )
    kafka_ssl_key: str = variable("", readable_file, "file with its private key")
    kafka_sasl_mechanism: str = variable(
        "SCRAM-SHA-512", one_of(*SASL_MECHANISMS), "one of " + ", ".join(SASL_MECHANISMS)
    )
    kafka_sasl_username: str = variable("", text, "whom SASL lets in")
    kafka_sasl_password: str = variable("", text, "the password", secret=True)

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
class Settings(
    KafkaSettings,
    DatabaseSettings,
    PageSettings,
    RouteSettings,
    ReceiptSettings,
    LimitSettings,
    AccessSettings,
):
    """Everything that a deployment may choose, read once at start."""

    serves_clients: ClassVar[bool] = True

    db_pool_size: int = variable(
        8, whole(1, 100), "connections for requests; ingest and maintenance add up to four"
    )
    service_address: str = variable("", text, "address to listen on; empty for all")
    service_port: int = variable(8005, whole(0, 65535), "port to listen on; 0 for any free one")
    management_address: str = variable("", text, "address for MANAGEMENT_PORT; empty for all")
    management_port: int | None = variable(
        None, optional_port, "port for /metrics and /readiness, which SERVICE_PORT then has not"
    )
    relay_partitions: int = variable(
        16,
        whole(1, 256),
        "partitions of each topic between processes, when --role ingest makes it",
    )
    kafka_keyed_by: str = variable(
        "event",
        one_of("event", "booking"),
        "what the platform's record keys are; with event (or anything else but the booking)"
        " processes with --role ingest pass records on to the one that stores their booking",
    )
    live_reads: str = variable(
        "all", one_of("all", "rooms"), "what --role live reads: all partitions, or its rooms'"
    )
    batch_records: int = variable(
        5000, whole(1, 100_000), "most records in one transaction; fewer drain a backlog slower"
    )
    waypoint_partitions: str = variable(
        "month", one_of("month", "day"), "what a new partition of the table waypoints holds"
    )
    jwt_secret: str = variable("", secret_key, "shared secret of HS256 tokens", secret=True)
    jwt_public_key: str = variable(
        "", public_key, "PEM public key of RS256 or ES256 tokens", secret=True
    )
    jwt_jwks_url: str = variable("", https_url, "JWKS with the keys of RS256 or ES256 tokens")
    jwt_jwks_ca: str = variable(
        "", readable_file, "file with the CA of that address's certificate; empty for the system's"
    )
    jwt_issuers: tuple[str, ...] = variable(
        ("kilat-pet-runner", "service-identity"), items, "accepted values of the claim iss"
    )
    allowed_origins: tuple[str, ...] = variable(
        (), origins, "browser origins for CORS and WebSockets; * for any, empty for no CORS"
    )
    trusted_proxies: tuple[Network, ...] = variable(
        networks("127.0.0.1,::1"),
        networks,
        "gateways whose X-Forwarded-For is believed: addresses, or networks like 10.0.0.0/8",
    )
    public_url: str = variable(
        "http://localhost:8005", base_url, "where clients reach this service; for share links"
    )
    share_link_hours: int = variable(
        24, whole(1, 720), "how long a share link opens a booking, unless asked"
    )
    share_link_max_hours: int = variable(
        168, whole(1, 8760), "longest life that may be asked for; SHARE_LINK_HOURS if that is more"
    )
    unknown_booking_grace: int = variable(
        30, whole(0, 3600), "seconds in which a viewer of an unknown booking is told to come back"
    )
    tracking_updated: bool = variable(
        True, switch, "send a tracking.updated event for each waypoint"
    )
    tracking_updated_interval: int = variable(
        0, whole(0, 86_400), "seconds of recorded time between a track's tracking.updated; 0: all"
    )
    otel_exporter_otlp_endpoint: str = variable(
        "", otlp_endpoint, "where spans are sent, OTLP over HTTP; empty: none are made"
    )
    log_level: str = variable("info", one_of(*LOG_LEVELS), "least severe level that is logged")
    log_format: str = variable("text", one_of("text", "json"), "one line each, text or json")

    @property
    def partitions_by_day(self) -> bool:
        return self.waypoint_partitions == "day"

    @property
    def forwards(self) -> bool:
        """Whether records go on to the process that stores their booking."""
        return not self.serves_clients and self.kafka_keyed_by == "event"

    @property
    def share_link_max_s(self) -> int:
        """The longest that a link may live, or stay open behind the trip's end."""
        return 3600 * max(self.share_link_max_hours, self.share_link_hours)

    def contradictions(self) -> list[str]:
        keys = [
            name for name in ("jwt_secret", "jwt_public_key", "jwt_jwks_url") if getattr(self, name)
        ]
        problems = super().contradictions()
        if not self.serves_clients:
            return problems
        if self.jwt_jwks_ca and not self.jwt_jwks_url:
            problems.append("JWT_JWKS_CA: expected only beside JWT_JWKS_URL, which is not set")
        if len(keys) == 1:
            return problems
        found = "none is set" if not keys else " and ".join(keys).upper() + " are set"
        return [
            *problems,
            f"JWT_SECRET, JWT_PUBLIC_KEY, JWT_JWKS_URL: {found}; expected exactly one"
            f" (JWT_SECRET: at least {MIN_SECRET_BYTES} bytes, e.g. from `openssl rand -hex 32`)",
        ]


@dataclass(frozen=True, kw_only=True)
class IngestSettings(Settings):
    """Of a process that serves no clients: it needs no key for their tokens."""

    serves_clients: ClassVar[bool] = False
