"""A private Apache Kafka: one node, KRaft. As a command: fetches Kafka's jars, prepares starts."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import uuid4

from dev.kafka_jars import archive_file, install_jars, java_command
from dev.private_server import READY_SECONDS, PrivateServer, ServiceError, free_port, say

PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "true",
    "num.partitions": "3",
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",  # no second consumer is on its way
    # After a kill -9 the controller keeps the dead broker's place for so long; default 9 s.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
}


class PrivateKafka(PrivateServer):
    """A broker in a directory.

    `properties` go over the defaults, as in server.properties; `listeners`
    (`NAME://host:port`) are added, and need their line in listener.security.protocol.map.
    """

    name = "Kafka"
    stop_signal = signal.SIGTERM

    def __init__(
        self,
        directory: Path,
        properties: Mapping[str, str] | None = None,
        listeners: Sequence[str] = (),
    ) -> None:
        super().__init__(directory)
        self._extra = dict(properties or {})
        self.listeners = listeners
        self._properties_file = self.directory / "server.properties"

    @property
    def brokers(self) -> str:
        """As clients are told it: host and port."""
        return f"127.0.0.1:{self.port}"

    def _prepare(self) -> None:
        install_jars()
        data = self.directory / "data"
        if (data / "meta.properties").exists():
            return
        shutil.rmtree(data, ignore_errors=True)
        self._choose_port()
        self._write_properties()
        format_ = ["kafka.tools.StorageTool", "format", "--cluster-id", _cluster_id()]
        format_ += ["--config", str(self._properties_file)]
        argv = java_command("-XX:TieredStopAtLevel=1", *format_)
        with self.log.open("ab") as log:
            done = subprocess.run(argv, stdout=log, stderr=subprocess.STDOUT)
        if done.returncode != 0:
            raise self._failure("could not format its storage")

    def _write_properties(self) -> None:
        controller = free_port()
        listeners = [
            f"BROKER://127.0.0.1:{self.port}",
            f"CONTROLLER://127.0.0.1:{controller}",
            *self.listeners,
        ]
        properties = {
            **PROPERTIES,
            "log.dirs": str(self.directory / "data"),
            "listeners": ",".join(listeners),
            "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "BROKER",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            **self._extra,
        }
        lines = [f"{name}={value}\n" for name, value in properties.items()]
        self._properties_file.write_text("".join(lines))

    def _command(self) -> list[str]:
        self._write_properties()
        # The shell writes the process id before there is a broker: one that nobody knows of
        # would hold the data for ever.
        record = 'echo $$ >"$0" && exec "$@"'
        java = java_command("-Xmx512m", "kafka.Kafka", str(self._properties_file))
        return ["/bin/sh", "-c", record, str(self._pid_file()), *java]

    def _mark(self) -> str:
        return str(self._properties_file)

    def _answers(self) -> bool:
        """An ApiVersions request, the first that every client sends."""
        request = struct.pack(">hhih", 18, 0, 1, -1)
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(struct.pack(">i", len(request)) + request)
                return len(connection.recv(10)) == 10
        except OSError:
            return False


class _ArchivingKafka(PrivateKafka):
    """A broker that writes the classes it has loaded into a file when it ends."""

    def __init__(self, directory: Path, classes: Path) -> None:
        super().__init__(directory)
        self._classes = classes

    def _command(self) -> list[str]:
        command = super()._command()
        command.insert(command.index("kafka.Kafka"), f"-XX:ArchiveClassesAtExit={self._classes}")
        return command

    def run(self) -> None:
        self.start()
        assert self.pid is not None
        os.kill(self.pid, self.stop_signal)
        if not self._await_gone(READY_SECONDS):  # writing takes longer than a stop may
            raise self._failure("did not archive its classes")


def archive_classes() -> Path:
    """Kafka's classes as this Java has parsed and checked them; made unless they are there.

    With them a broker, or a format of its storage, starts with half of the CPU time. A Java that
    cannot make them leaves an empty file, and starts as ever.
    """
    archive = archive_file()
    if archive.exists():
        return archive
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        classes = Path(folder, "classes.jsa")
        with _ArchivingKafka(Path(folder, "kafka"), classes) as broker:
            broker.run()
        classes.touch()
        classes.rename(archive)
    say(f"Kafka's classes archived in {archive} in {time.monotonic() - begin:.1f} s")
    return archive


def _cluster_id() -> str:
    """22 characters of base64; a leading dash would look like an option."""
    text = urlsafe_b64encode(uuid4().bytes).decode().rstrip("=")
    return text if not text.startswith("-") else _cluster_id()


if __name__ == "__main__":
    try:
        install_jars()
        archive_classes()
    except ServiceError as error:
        sys.exit(f"setup: {error}")
