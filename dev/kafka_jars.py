"""Kafka's jars, fetched by Maven, and how a program in them is called."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

from dev.private_server import CHECKOUT, ServiceError, say

POM = CHECKOUT / "dev" / "kafka" / "pom.xml"
LOGGING = CHECKOUT / "dev" / "kafka" / "log4j2.properties"


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


def java_command(option: str, *arguments: str) -> list[str]:
    archive = archive_file()
    has_classes = archive.exists() and archive.stat().st_size > 0
    classes = [f"-XX:SharedArchiveFile={archive}"] if has_classes else []
    logging = f"-Dlog4j2.configurationFile={LOGGING}"
    # As Kafka's own scripts call it: a broker that lives for minutes compiles less, for instance.
    tuning = os.environ.get("KAFKA_JVM_PERFORMANCE_OPTS", "").split()
    options = [*classes, *tuning, option, logging, "-cp", f"{jars_directory()}/*"]
    return [_java_program(), *options, *arguments]


def archive_file() -> Path:
    """Beside the jars; of one Java, which an update of its package replaces."""
    java = Path(_java_program()).resolve()
    identity = f"{java} {java.stat().st_mtime_ns}".encode()
    jars = jars_directory()
    return jars.with_name(f"{jars.name}-{hashlib.sha256(identity).hexdigest()[:8]}.jsa")


def _java_program() -> str:
    java = shutil.which("java")
    if java is None:
        raise ServiceError("Kafka needs Java 17 or newer, which is missing: `make setup`")
    return java
