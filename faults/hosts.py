"""Machines of their own, as the network sees them: network namespaces on a bridge.

This machine is the first address on the bridge; PostgreSQL and Kafka listen there, too.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from dev.private_kafka import PROPERTIES, PrivateKafka
from dev.private_postgres import PrivatePostgres
from dev.private_server import free_port
from faults.world import SETTINGS, World, running

IP: Final = shutil.which("ip") or shutil.which("ip", path="/usr/sbin:/sbin") or "ip"
# Of each bridge and namespace, followed by the process that made it: who was killed left them.
MARK: Final = "trk"
KAFKA: Final = {
    "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,HOSTS:PLAINTEXT"
}


class Host:
    """A namespace with one link to the bridge."""

    def __init__(self, network: "Network", number: int) -> None:
        self.address = network.address(number)
        self._bridge, self._link = network.name, f"{network.name}h{number}"
        self._name = f"{network.name}-{number}"
        # What runs a command there.
        self.prefix = (IP, "netns", "exec", self._name)
        inside = ("-n", self._name)
        ip("netns", "add", self._name)
        ip("link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self._name)
        ip(*inside, "address", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip(*inside, "link", "set", device, "up")
        ip("link", "set", self._link, "up")
        self.join()

    def cut(self) -> None:
        """Its link stays up, and nothing gets through: nobody is told."""
        ip("link", "set", self._link, "nomaster")

    def join(self) -> None:
        ip("link", "set", self._link, "master", self._bridge)


class Network:
    """The bridge. Raises NoNetwork where there cannot be one."""

    def __init__(self) -> None:
        pid = os.getpid()
        self.name = f"{MARK}{pid}"
        self._net = f"10.213.{pid % 256}"
        self._hosts = 0
        remove_remains()
        ip("link", "add", self.name, "type", "bridge")
        ip("address", "add", f"{self.address(1)}/24", "dev", self.name)
        ip("link", "set", self.name, "up")

    def address(self, number: int) -> str:
        return f"{self._net}.{number}"

    @property
    def all(self) -> str:
        """Every address of it, as PostgreSQL wants them."""
        return f"{self._net}.0/24"

    def host(self) -> Host:
        self._hosts += 1
        return Host(self, self._hosts + 1)

    def remove(self) -> None:
        remove(self.name)


class NoNetwork(Exception):
    """The reason, as a sentence."""


def ip(*arguments: str) -> str:
    try:
        done = subprocess.run([IP, *arguments], capture_output=True, text=True)
    except OSError as error:
        raise NoNetwork(f"iproute2 is not installed: {error}") from None
    if done.returncode:
        raise NoNetwork(f"no network namespaces to be had: {done.stderr.strip()}")
    return done.stdout


def remove_remains() -> None:
    """Of processes that are no more."""
    for name in _names():
        if not Path(f"/proc/{name.removeprefix(MARK)}").exists():
            remove(name)


def remove(name: str) -> None:
    for each in _names("netns", name=f"{name}-"):
        ip("netns", "delete", each)  # and with it its link
    ip("link", "delete", name)


def _names(*what: str, name: str = MARK) -> list[str]:
    """Bridges, or what else is asked for."""
    said = ip("-j", *(what or ("link", "show", "type", "bridge")))
    found: list[dict[str, Any]] = json.loads(said or "[]")
    names = [str(each.get("ifname", each.get("name", ""))) for each in found]
    return [each for each in names if each.startswith(name)]


@contextmanager
def networked_world(directory: Path) -> Iterator[tuple[World, Network]]:
    """Servers that hosts reach. Raises NoNetwork."""
    network = Network()
    try:
        here = network.address(1)
        settings = {**SETTINGS, "listen_addresses": f"127.0.0.1,{here}", "max_connections": "120"}
        postgres = PrivatePostgres(directory / "postgres", settings)
        listener = f"HOSTS://{here}:{free_port()}"
        kafka = PrivateKafka(directory / "kafka", {**PROPERTIES, **KAFKA}, [listener])
        with running(postgres, kafka) as world:
            with (postgres.data / "pg_hba.conf").open("a") as rules:
                rules.write(f"host all all {network.all} scram-sha-256\n")
            postgres.psql("postgres", "SELECT pg_reload_conf()")
            yield world, network
    finally:
        network.remove()


def as_hosts_see(world: World, network: Network) -> dict[str, str]:
    """Where a process on a host finds database and broker."""
    (listener,) = world.kafka.listeners
    return {
        "DB_HOST": network.address(1),
        "DB_PORT": str(world.postgres.port),
        "KAFKA_BROKERS": listener.partition("://")[2],
    }


def clock_off(folder: Path, seconds: int) -> dict[str, str] | None:
    """The environment of a process whose clock is wrong; None without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    library, source = folder / "clock.so", Path(__file__).with_name("clock.c")
    if not library.exists():
        command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
        subprocess.run(command, check=True)
    return {"LD_PRELOAD": str(library), "CLOCK_OFF_S": str(seconds)}
