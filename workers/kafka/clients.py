"""How Kafka is reached: the options that every client of kafka-python gets."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socket import socket
from typing import Any, Final

from kafka import KafkaProducer
from kafka.errors import KafkaError
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket

from tracking.settings import KafkaSettings

# More than this no client of ours needs, whatever it sends or reads: then each waits for a moment.
POLLS_A_SECOND: Final = 500
REST_S: Final = 0.02


def connection_options(settings: KafkaSettings) -> dict[str, Any]:
    """Brokers, TLS and SASL. Any thread."""
    options: dict[str, Any] = {
        "bootstrap_servers": list(settings.kafka_brokers),
        "client_id": "service-tracking",
        "security_protocol": settings.kafka_security_protocol,
        "kafka_client": _Client,
        "proxy_url": f"{_Socket.SCHEMES[0]}://",
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


def kept(producer: KafkaProducer) -> KafkaProducer:
    """The same producer, which its owner ends. Any thread.

    Else kafka-python closes it when the interpreter ends, and raises if its broker is away.
    """
    producer._unregister_cleanup()
    return producer


def abandon(producer: KafkaProducer) -> None:
    """End a producer; what it has not sent by now it never will. Any thread.

    kafka-python's own close() waits for that, then raises and leaves the producer's thread running.
    """
    producer._sender.force_close()
    with suppress(KafkaError):
        producer.close(timeout=1)


class _Socket(KafkaNetSocket):  # type: ignore[misc]
    """Closes itself when it cannot connect. A "proxy" to the client that uses it.

    kafka-python 3.0.12 leaves it to the collector, which comes late where little is allocated.
    """

    SCHEMES = ("direct",)

    async def sock_connect(self, net: Any, sock: socket, *args: Any, **options: Any) -> socket:
        try:
            await super().sock_connect(net, sock, *args, **options)
        except BaseException:
            sock.close()
            raise
        return sock


class _Client(KafkaNetClient):  # type: ignore[misc]
    """Leaves nothing behind when no broker answers while its owner is constructed, and never spins.

    kafka-python 3.0.12 forgets the client's thread and descriptors then, five for each try, and a
    producer whose broker went away takes two thirds of a core.
    """

    def __init__(self, **configs: Any) -> None:
        self._second, self._polls = 0.0, 0
        super().__init__(**configs)
        self._bootstrap_manager = self._manager.bootstrap
        self._manager.bootstrap = self._bootstrap_or_close

    def poll(self, timeout_ms: float | None = None, future: Any = None) -> Any:
        """A producer with something to send asks without a pause until its broker is connected."""
        now = time.monotonic()
        if now - self._second > 1.0:
            self._second, self._polls = now, 0
        self._polls += 1
        if self._polls > POLLS_A_SECOND and future is None:
            time.sleep(REST_S)
        return super().poll(timeout_ms=timeout_ms, future=future)

    def _bootstrap_or_close(self, *args: Any, **options: Any) -> None:
        try:
            self._bootstrap_manager(*args, **options)
        except BaseException:
            self.close()
            raise


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

    A broker that refuses a password may hang up before or after it says so, and the last try is cut
    short by the end of our patience.
    """
    if "timed out" in complaint or "Unable to bootstrap" in complaint:
        return 0
    if "socket disconnected" in complaint:
        return 1
    return 2 if "rror" in complaint else 0
