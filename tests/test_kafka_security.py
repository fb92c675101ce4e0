"""A broker that demands TLS and a password, and what is said when they are wrong."""

import ipaddress
import logging
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kafka import KafkaAdminClient
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion
from kafka.errors import KafkaError

from dev.private_kafka import PrivateKafka
from dev.private_server import free_port
from tests.programs import run_program
from tests.running import (
    Platform,
    Server,
    Trip,
    fresh_database,
    running_server,
    wait_until,
)
from tracking.settings import KafkaSettings, Settings
from workers.kafka.clients import explained
from workers.kafka.dead_letter_topic import kept_dead_letters
from workers.relay.client import TOPIC, ensure_topic, options, partitions_of

USER, PASSWORD = "tracking", "correct-horse-battery"


def make_certificate(path: Path) -> Path:
    """Its own CA, for 127.0.0.1; `path` gets key and certificate, the returned file only that."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
    now = datetime.now(UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(private + pem)
    public = path.with_suffix(".crt")
    public.write_bytes(pem)
    return public


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Settings that open the broker, and its open listener as `plain`."""
    folder = tmp_path_factory.mktemp("secured")
    ca = make_certificate(folder / "broker.pem")
    port = free_port()
    login = "org.apache.kafka.common.security"
    properties = {
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "broker.pem"),
        "listener.name.secure.plain.sasl.jaas.config": f"{login}.plain.PlainLoginModule required"
        f' user_{USER}="{PASSWORD}";',
        "listener.name.secure.scram-sha-512.sasl.jaas.config": f"{login}.scram.ScramLoginModule"
        " required;",
    }
    with PrivateKafka(folder / "kafka", properties, [f"SECURE://127.0.0.1:{port}"]) as kafka:
        admin = KafkaAdminClient(bootstrap_servers=kafka.brokers)
        upsert = UserScramCredentialUpsertion(USER, ScramMechanism.SCRAM_SHA_512, PASSWORD)
        assert admin.alter_user_scram_credentials([upsert]) == {USER: None}
        admin.close()
        yield {
            "plain": kafka.brokers,
            "KAFKA_BROKERS": f"127.0.0.1:{port}",
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SSL_CA": str(ca),
            "KAFKA_SASL_USERNAME": USER,
            "KAFKA_SASL_PASSWORD": PASSWORD,
        }


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_every_client_gets_through_tls_and_a_password(
    environ: dict[str, str], secured: dict[str, str], tmp_path: Path, mechanism: str
) -> None:
    settings = {name: value for name, value in secured.items() if name != "plain"}
    log = tmp_path / "log"
    settings["KAFKA_SASL_MECHANISM"] = mechanism
    with fresh_database(environ) as own, running_server(own, log, **settings) as server:
        platform = Platform(secured["plain"], server.environ["KAFKA_TOPIC_PREFIX"])
        trip = Trip()
        platform.accept(trip)
        platform.update(trip, 0)
        platform.send_raw("runner.events", b"malformed")
        sent = {"type": "tracking.updated"}
        wait_until(lambda: server.metric("tracking_published_events_total", **sent) == 1, "sent")
        wait_until(lambda: server.metric("tracking_dead_letters_total") == 1, "kept")
        assert len(list(kept_dead_letters(KafkaSettings.from_environment(server.environ)))) == 1
        checked = check(server.environ)
        assert checked.returncode == 0, checked.stderr
        platform.close()
    assert PASSWORD not in log.read_text()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_the_relay_gets_through_tls_and_a_password(
    environ: dict[str, str], secured: dict[str, str], mechanism: str
) -> None:
    """Another library: librdkafka has options of its own."""
    own = {"KAFKA_TOPIC_PREFIX": f"secured-{mechanism.lower()}", "KAFKA_SASL_MECHANISM": mechanism}
    settings = Settings.from_environment({**environ, **secured, **own})
    admin = AdminClient(options(settings))
    assert ensure_topic(admin, settings.topic(TOPIC), 2) == 2
    wrong = Settings.from_environment(
        {**environ, **secured, **own, "KAFKA_SASL_PASSWORD": "wrong-horse"}
    )
    with pytest.raises(KafkaException):
        partitions_of(AdminClient(options(wrong)), settings.topic(TOPIC))


# What is wrong, and what is said of it.
MISTAKES: dict[str, tuple[dict[str, str], str]] = {
    "password": (
        {"KAFKA_SASL_PASSWORD": "wrong-horse"},
        "Authentication failed|KAFKA_SASL_PASSWORD looks",
    ),
    "ca": ({"KAFKA_SSL_CA": "other"}, "certificate verify failed"),
    "protocol": (
        {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_SSL_CA": ""},
        "frame length|disconnected",
    ),
}


@pytest.fixture(scope="module")
def mistaken(
    database: dict[str, str], secured: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Server]]:
    """A server for each mistake, started together: it takes them seconds to hear why."""
    folder = tmp_path_factory.mktemp("mistaken")
    other = str(make_certificate(folder / "other.pem"))
    servers = {}
    for name, (wrong, _) in MISTAKES.items():
        environ = {**database, **secured, **wrong, "SERVICE_PORT": "0"}
        if environ["KAFKA_SSL_CA"] == "other":
            environ["KAFKA_SSL_CA"] = other
        servers[name] = Server(environ, folder / name)
    try:
        yield {name: server.start() for name, server in servers.items()}
    finally:
        for server in servers.values():
            if server.process is not None:
                server.stop()


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_is_wrong_is_said_and_never_the_password(
    mistaken: dict[str, Server], mistake: str
) -> None:
    server, said = mistaken[mistake], MISTAKES[mistake][1]
    checked = check(server.environ)
    assert checked.returncode == 1
    assert re.search(said, checked.stderr)
    wait_until(lambda: "no Kafka broker answers" in server.log.read_text(), "said so")
    # Not each try gets so far that it hears why: a broker takes its time to refuse.
    wait_until(lambda: re.search(said, server.log.read_text()), "said why", 60)
    assert server.get("/readiness")[1]["checks"]["kafka"] == "no broker answers"
    assert server.stop() == 0
    text = server.log.read_text()
    assert "Traceback" not in text + checked.stderr
    for secret in (server.environ["KAFKA_SASL_PASSWORD"], PASSWORD):
        assert secret not in text + checked.stdout + checked.stderr


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_reason_is_told_before_what_followed_from_it(order: tuple[int, ...]) -> None:
    complaints = (
        "Abort (KafkaConnectionError: socket disconnected)",
        "Abort ([Error 7] RequestTimedOutError: Request timed out after 134 ms)",
        "SaslAuthenticationFailedError: Authentication failed",
    )

    def bootstrap() -> None:
        for number in order:
            logging.getLogger("kafka.net").error(complaints[number])
        raise KafkaError("cannot bootstrap")

    with pytest.raises(KafkaError, match="Authentication failed"), explained():
        bootstrap()


def check(environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return run_program("server.py", "--check", environ=environ)
