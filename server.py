"""The live trip-tracking server: reads Settings, starts a role, runs until a signal."""

import argparse
import asyncio
import gc
import logging
import sys
from contextlib import AsyncExitStack
from typing import Final

from roles.building import Building
from roles.starting import start
from tracking import __version__, logs
from tracking.errors import SettingsError
from tracking.journal import complain
from tracking.settings import IngestSettings, Settings
from workers.connection_check import check_connections
from workers.stop import EXIT_FAILED, Stop

log = logging.getLogger("tracking.server")

# A busy Python thread gives way to the loop after so long (CPython's default is 5 ms).
SWITCH_INTERVAL_S: Final = 0.0005
# A collection of young objects every 50,000 allocations; old ones are few and rarely die.
GC_THRESHOLDS: Final = (50_000, 20, 100)

EXIT_SETTINGS: Final = 2

ROLES: Final = """\
roles:
  all     everything in one process, which must be the only one of its group (default)
  ingest  stores what Kafka has, any number of processes; /health, /readiness, /metrics
  live    serves the clients, any number of processes, beside at least one with ingest

"""


async def serve(role: str, settings: Settings, stop: Stop) -> int:
    """Start what the role has, run until told to stop, stop in reverse; the exit status."""
    async with AsyncExitStack() as stack:
        building = Building(stack, settings, stop)
        await start(role, building)
        gc.collect()
        gc.freeze()  # what start-up made lives as long as the process
        await stop.wait()
        building.supervisor.stopping()
    return stop.status()


def main() -> int:
    """The exit status: 0 stopped, 1 a worker or connection failed, 2 wrong settings."""
    parser = argparse.ArgumentParser(
        description="Live trip-tracking server: Kafka in, PostGIS, REST and WebSocket out.",
        epilog=f"{ROLES}settings, from the environment [default], those of another role are no"
        " error; a secret NAME may come from the file"
        f" that NAME_FILE names:\n{Settings.explain()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--role", choices=("all", "ingest", "live"), default="all", help="what to do, see below"
    )
    parser.add_argument("--check", action="store_true", help="try settings and connections, exit")
    parser.add_argument("--version", action="version", version=__version__)
    arguments = parser.parse_args()
    try:
        kind = IngestSettings if arguments.role == "ingest" else Settings
        settings = kind.from_environment()
    except SettingsError as error:
        complain(error)
        return EXIT_SETTINGS
    if arguments.check:
        return EXIT_FAILED if check_connections(settings, arguments.role) else 0
    stop = Stop()
    stop.listen()
    logs.configure(settings.log_level, settings.log_format)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(*GC_THRESHOLDS)
    shown = " ".join(f"{name.upper()}={value}" for name, value in settings.masked().items())
    log.info(
        "service-tracking %s, role %s, on Python %s; %s",
        __version__, arguments.role, sys.version.split()[0], shown,
    )  # fmt: skip
    try:
        return stop.leave(asyncio.run(serve(arguments.role, settings, stop)))
    except OSError as error:
        log.critical("%s", error.strerror)
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
