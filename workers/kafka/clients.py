"""How Kafka is reached: the options that every client of kafka-python gets."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kafka.errors import KafkaError

from tracking.settings import KafkaSettings
from workers.kafka.network import ClosingClient, ClosingSocket, Selector
from workers.kafka.patches import require_version


def connection_options(settings: KafkaSettings) -> dict[str, Any]:
    """Brokers, TLS and SASL, for the version of kafka-python that is patched. Any thread."""
    require_version()
    options: dict[str, Any] = {
        "bootstrap_servers": list(settings.kafka_brokers),
        "client_id": "service-tracking",
        "security_protocol": settings.kafka_security_protocol,
        "kafka_client": ClosingClient,
        "proxy_url": f"{ClosingSocket.SCHEMES[0]}://",
        "selector": Selector,
        # Brokers that are back are found within a second, not within kafka-python's half minute.
        "reconnect_backoff_max_ms": 1_000,
    }
    if settings.uses_tls:
        options |= {
            "ssl_cafile": settings.kafka_ssl_ca or None,
            "ssl_certfile": settings.kafka_ssl_cert or None,
            "ssl_keyfile": settings.kafka_ssl_key or None,
        }
    if settings.uses_sasl:
        options |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": settings.kafka_sasl_password,
        }
    return options


@contextmanager
def explained() -> Iterator[None]:
    """A KafkaError of the block says why no broker lets us in. Any thread.

    kafka-python 3.0.12 tells it to its log only, and raises that it could not bootstrap.
    """
    complaints = _Complaints()
    library = logging.getLogger("kafka")
    library.addHandler(complaints)
    try:
        yield
    except KafkaError as error:
        if complaints.telling:
            raise KafkaError(complaints.telling + hint(complaints.telling)) from error
        raise
    finally:
        library.removeHandler(complaints)


class _Complaints(logging.Handler):
    """Keeps the most telling reason for which a connection failed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.telling = ""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if not self.telling or telling(text) > telling(self.telling):
            self.telling = text


def hint(complaint: str) -> str:
    """A broker that does not like us may hang up without a word."""
    if "socket disconnected" not in complaint:
        return ""
    return " (a wrong KAFKA_SECURITY_PROTOCOL or KAFKA_SASL_PASSWORD looks like this, too)"


def telling(complaint: str) -> int:
    """How much a complaint explains.

    A broker that rejects a password may hang up before or after it says so, and the last try ends
    with our timeout, whatever was heard by then.
    """
    if "timed out" in complaint or "Unable to bootstrap" in complaint:
        return 0
    if "socket disconnected" in complaint:
        return 1
    return 2 if "rror" in complaint else 0
