"""Tables for people, with what the run was."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, TypeAlias

import kafka

from tests.running import connect

# What the service that this one replaces reached on two cores, updates a second.
REPLACED_RATE: Final = 53.0

# p50, p90 and p99
Quantiles: TypeAlias = tuple[float, float, float]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def quantiles(values: Sequence[float]) -> Quantiles:
    """p50, p90 and p99 of the values themselves (nearest rank)."""
    ranked = sorted(values)
    last = len(ranked) - 1
    return ranked[last // 2], ranked[last * 9 // 10], ranked[last * 99 // 100]


def circumstances(environ: dict[str, str]) -> str:
    """Date, cores and versions."""
    connection = connect(environ, "postgres")
    server = connection.info.server_version
    connection.close()
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, Python"
        f" {platform.python_version()}, kafka-python {kafka.__version__},"
        f" PostgreSQL {server // 10000}.{server % 10000}"
    )
