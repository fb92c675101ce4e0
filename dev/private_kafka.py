"""A private Apache Kafka: one node, KRaft. As a command: fetches Kafka's jars."""

from __future__ import annotations

import hashlib
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
from xml.etree import ElementTree

from dev.private_server import CHECKOUT, PrivateServer, ServiceError, free_port, say

POM = CHECKOUT / "dev" / "kafka" / "pom.xml"
LOGGING = CHECKOUT / "dev" / "kafka" / "log4j2.properties"

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
        self._listeners = listeners
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
        argv = _java("-XX:TieredStopAtLevel=1", *format_, "--config", str(self._properties_file))
        with self.log.open("ab") as log:
            done = subprocess.run(argv, stdout=log, stderr=subprocess.STDOUT)
        if done.returncode != 0:
            raise self._failure("could not format its storage")

    def _write_properties(self) -> None:
        controller = free_port()
        listeners = [
            f"BROKER://127.0.0.1:{self.port}",
            f"CONTROLLER://127.0.0.1:{controller}",
            *self._listeners,
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
        java = _java("-Xmx512m", "kafka.Kafka", str(self._properties_file))
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


def install_jars() -> Path:
    """Kafka's jars, fetched by Maven unless they are there; shared by all checkouts of a user."""
    jars = jars_directory()
    if jars.exists():
        return jars
    maven = shutil.which("mvn")
    if maven is None:
        raise ServiceError("Kafka's jars come through Maven, which is missing: `make setup`")
    jars.parent.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(dir=jars.parent) as half:
        copy = ["dependency:copy-dependencies", f"-DoutputDirectory={half}/jars"]
        argv = [maven, "-q", "-B", "-Dstyle.color=never", "-f", str(POM), *copy]
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise ServiceError(f"Maven could not fetch Kafka's jars:\n{done.stdout}")
        try:
            Path(half, "jars").rename(jars)
        except OSError:
            pass  # another checkout was faster; its jars are the same
    say(f"Kafka's jars fetched into {jars} in {time.monotonic() - begin:.1f} s")
    return jars


def jars_directory() -> Path:
    """Named after the version, and after the whole pom for what else it asks for."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    pom = hashlib.sha256(POM.read_bytes()).hexdigest()[:8]
    return Path(cache) / "service-tracking" / f"kafka-{_kafka_version()}-{pom}"


def _kafka_version() -> str:
    namespace = {"m": "http://maven.apache.org/POM/4.0.0"}
    pom = ElementTree.parse(POM)  # noqa: S314 - our own file
    version = pom.findtext("m:properties/m:kafka.version", namespaces=namespace)
    if not version:
        raise ServiceError(f"{POM} names no kafka.version")
    return version


def _java(option: str, *arguments: str) -> list[str]:
    java = shutil.which("java")
    if java is None:
        raise ServiceError("Kafka needs Java 17 or newer, which is missing: `make setup`")
    logging = f"-Dlog4j2.configurationFile={LOGGING}"
    # As Kafka's own scripts call it: a broker that lives for minutes compiles less, for instance.
    tuning = os.environ.get("KAFKA_JVM_PERFORMANCE_OPTS", "").split()
    return [java, *tuning, option, logging, "-cp", f"{jars_directory()}/*", *arguments]


def _cluster_id() -> str:
    """22 characters of base64; a leading dash would look like an option."""
    text = urlsafe_b64encode(uuid4().bytes).decode().rstrip("=")
    return text if not text.startswith("-") else _cluster_id()


if __name__ == "__main__":
    try:
        install_jars()
    except ServiceError as error:
        sys.exit(f"setup: {error}")
