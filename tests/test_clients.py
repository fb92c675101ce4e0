"""workers.kafka.clients: how clients of Kafka are made, and what is left when no broker answers."""

import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError

from tracking.settings import Settings
from workers.kafka.clients import connection_options

ENVIRON = {
    "DB_PASSWORD": "secret",
    "JWT_SECRET": "x" * 32,
    "KAFKA_BROKERS": "127.0.0.1:1",  # nobody listens there
}


@pytest.mark.parametrize("kind", [KafkaAdminClient, KafkaConsumer, KafkaProducer])
def test_a_client_that_finds_no_broker_leaves_nothing_behind(
    kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "kafka")  # kept records would keep sockets alive
    options = connection_options(Settings.from_environment(ENVIRON))
    held = []
    for _ in range(4):
        with pytest.raises(KafkaError):
            kind(**options, bootstrap_timeout_ms=50)
        held.append((threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))))
    assert all(now <= then for now, then in zip(held[-1], held[0], strict=True))
