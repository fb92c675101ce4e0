"""Servers of our own to stop, kill and pause: one PostgreSQL and one Kafka for each worker."""

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from dev.private_kafka import PrivateKafka
from dev.private_postgres import PrivatePostgres
from dev.private_server import PrivateServer

# Few connections, so that they can be taken; a service has up to 10, and the suite a few.
SETTINGS: Final = {"max_connections": "40", "shared_buffers": "64MB"}


class World(NamedTuple):
    """What a scenario may break, and has to mend."""

    postgres: PrivatePostgres
    kafka: PrivateKafka
    secret: str

    def environ(self) -> dict[str, str]:
        return {
            "DB_HOST": "127.0.0.1",
            "DB_PORT": str(self.postgres.port),
            "DB_USER": self.postgres.user,
            "DB_PASSWORD": self.postgres.password,
            "DB_NAME": self.postgres.database,
            "KAFKA_BROKERS": self.kafka.brokers,
            "JWT_SECRET": self.secret,
        }

    def mend(self) -> None:
        """Everything runs and answers again, whatever a scenario left behind."""
        for each in (self.postgres, self.kafka):
            each.start()


@contextmanager
def world(directory: Path) -> Iterator[World]:
    """With servers of its own."""
    postgres = PrivatePostgres(directory / "postgres", SETTINGS)
    with running(postgres, PrivateKafka(directory / "kafka")) as made:
        yield made


@contextmanager
def running(postgres: PrivatePostgres, kafka: PrivateKafka) -> Iterator[World]:
    """Remains of a run that was killed are removed first."""
    servers: tuple[PrivateServer, ...] = (postgres, kafka)
    for server in servers:
        server.remove()
    try:
        with ThreadPoolExecutor() as pool:
            for started in [pool.submit(server.start) for server in servers]:
                started.result()
        yield World(postgres, kafka, secrets.token_hex(32))
    finally:
        for server in servers:
            server.remove()
