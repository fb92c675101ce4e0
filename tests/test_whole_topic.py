"""workers.kafka.whole_topic: all of a topic, or why not, and never without end."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    NewTopic,
    ResourcePattern,
    ResourceType,
)
from kafka.errors import KafkaTimeoutError, TopicAuthorizationFailedError

from dev.private_kafka import PrivateKafka
from dev.private_server import free_port
from tests.programs import run_program
from tracking.settings import KafkaSettings
from workers.erasures import TOPIC
from workers.kafka import whole_topic
from workers.kafka.whole_topic import NoTopic, records_of

USER, PASSWORD = "tracking", "correct-horse-battery"


@pytest.fixture(scope="module")
def listener() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory, listener: str) -> Iterator[PrivateKafka]:
    """Whoever comes without a name may do everything, USER what no ACL forbids."""
    module = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    properties = {
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,"
        "SECURE:SASL_PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.secure.plain.sasl.jaas.config": f'{module} user_{USER}="{PASSWORD}";',
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "allow.everyone.if.no.acl.found": "true",
    }
    folder = tmp_path_factory.mktemp("whole_topic")
    with PrivateKafka(folder / "kafka", properties, [f"SECURE://{listener}"]) as kafka:
        yield kafka


@pytest.fixture
def own(environ: dict[str, str], kafka: PrivateKafka, listener: str) -> dict[str, str]:
    return {
        **environ, "KAFKA_BROKERS": listener, "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_USERNAME": USER,
        "KAFKA_SASL_PASSWORD": PASSWORD, "KAFKA_TOPIC_PREFIX": f"test-{uuid4().hex[:12]}",
    }  # fmt: skip


@pytest.fixture
def settings(own: dict[str, str]) -> KafkaSettings:
    return KafkaSettings.from_environment(own)


@pytest.fixture
def admin(kafka: PrivateKafka) -> Iterator[KafkaAdminClient]:
    admin = KafkaAdminClient(bootstrap_servers=kafka.brokers)
    yield admin
    admin.close()


def made(admin: KafkaAdminClient, settings: KafkaSettings, name: str = TOPIC) -> str:
    topic = str(settings.topic(name))
    admin.create_topics([NewTopic(topic, 2, 1)])
    return topic


def fill(kafka: PrivateKafka, topic: str, count: int, size: int) -> None:
    producer = KafkaProducer(bootstrap_servers=kafka.brokers)
    for number in range(count):
        producer.send(topic, value=bytes([number]) * size, partition=number % 2)
    producer.close()


def test_an_empty_topic_is_not_one_that_is_missing(
    kafka: PrivateKafka, admin: KafkaAdminClient, settings: KafkaSettings
) -> None:
    topic = settings.topic(TOPIC)
    for _ in range(2):  # looking for it does not make it
        with pytest.raises(NoTopic, match=topic):
            list(records_of(settings, topic))
    made(admin, settings)
    assert list(records_of(settings, topic)) == []
    fill(kafka, topic, 100, 50_000)
    found = list(records_of(settings, topic))
    assert sorted(record.value[0] for record in found) == [*range(100)]
    for partition in (0, 1):
        numbers = [r.value[0] for r in found if r.partition == partition]
        assert numbers == sorted(numbers)


@pytest.mark.parametrize("operation", [ACLOperation.DESCRIBE, ACLOperation.READ])
def test_a_topic_that_may_not_be_seen_or_read_is_not_an_empty_one(
    kafka: PrivateKafka, admin: KafkaAdminClient, own: dict[str, str], settings: KafkaSettings,
    operation: ACLOperation,
) -> None:  # fmt: skip
    topic = made(admin, settings)
    fill(kafka, topic, 1, 1)
    admin.create_acls([
        ACL(f"User:{USER}", "*", operation, permission,
            ResourcePattern(ResourceType.TOPIC, topic))
        for operation, permission in (
            (ACLOperation.ALL, ACLPermissionType.ALLOW), (operation, ACLPermissionType.DENY))
    ])  # fmt: skip
    with pytest.raises(TopicAuthorizationFailedError):
        list(records_of(settings, topic))
    # Whoever restores is not let go on as if nobody had been erased.
    restore = ("after_restore.py", "--since", "2026-11-24T02:00Z", "--dry-run")
    refused = run_program(*restore, environ=own)
    assert (refused.returncode, refused.stdout) == (3, "")
    assert topic in refused.stderr
    assert "--without-erasures" in refused.stderr
    assert run_program(*restore, "--without-erasures", environ=own).returncode == 0


def test_a_broker_that_goes_silent_is_not_waited_for_without_end(
    kafka: PrivateKafka, admin: KafkaAdminClient, settings: KafkaSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(whole_topic, "SILENT_S", 2.0)
    monkeypatch.setattr(whole_topic, "TIMEOUT_MS", 2_000)
    topic = made(admin, settings)
    fill(kafka, topic, 100, 200_000)  # more than one answer of the broker holds
    records = records_of(settings, topic)
    next(records)
    kafka.pause()
    try:
        with pytest.raises(KafkaTimeoutError, match="nothing has come for 2 s"):
            list(records)
    finally:
        kafka.resume()
