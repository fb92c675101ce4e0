"""The roles, by the name that `--role` takes: what each of them starts. IOLoop thread."""

import asyncio
import secrets
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from handlers import management_routes
from handlers.limits import Limits
from handlers.services import ManagementServices
from roles.building import Building
from roles.serving import Watching, start_serving
from roles.storing import start_storing
from tracking.domain.changes import BookingChanges
from tracking.store.read.live import recent_moves
from workers.ingest import Publisher
from workers.monitoring.intake_checks import IntakeChecks
from workers.monitoring.watchdog import (
    measure_loop,
    measure_process,
    measure_relay,
    watch_thread,
)
from workers.relay.announcing import announce
from workers.relay.checks import receiver_checks, sender_checks
from workers.relay.receiving import RelayReceiver
from workers.relay.sending import RelaySender

# Without a broker clients are let in all the same: REST works, and a gap is healed.
CONNECT_S: Final = 5.0
RELAY_S: Final = 2.5


async def start_all(building: Building) -> None:
    """One process alone: what it stores it shows, with no hop in between."""
    watching = Watching(building)
    publisher: Publisher = watching.broadcast
    if building.tracing is not None:
        publisher = building.tracing.traced(publisher.publish)
    intake = start_storing(building, publisher)
    checks = IntakeChecks(intake, is_alone=True).by_name()
    start_serving(building, watching, checks, intake.delay_s)


async def start_ingest(building: Building) -> None:
    """Stores, and tells the live processes; serves nobody but the operator."""
    settings, metrics = building.settings, building.metrics
    process = f"{socket.gethostname()}:{secrets.token_hex(4)}"  # a process id is not unique
    sender = RelaySender(settings, metrics, process, building.stop.died, building.tracing)
    building.ends_with(sender, RELAY_S, "relay")
    intake = start_storing(building, sender, 2)  # for readiness, and for announcing
    sender.start(intake.delay_s)
    building.start_jobs(announce(sender, _recent_moves(building)))
    checks = IntakeChecks(intake, is_alone=False).by_name() | sender_checks(sender)
    readiness = building.readiness(building.engines["ingest"], checks)
    limits = Limits(settings, 1)
    services = ManagementServices(
        settings=settings, metrics=metrics, readiness=readiness.check, limits=limits
    )
    building.serve(services, management_routes(), management_routes())


def _recent_moves(building: Building) -> Callable[[float], Awaitable[list[BookingChanges]]]:
    engine, thread = building.engines["ingest"], building.threads("announcing")

    async def ask(seconds: float) -> list[BookingChanges]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(thread, recent_moves, engine, seconds)

    return ask


async def start_live(building: Building) -> None:
    """Serves the clients; hears from the relay what others have stored."""
    watching, settings = Watching(building), building.settings
    receiver = RelayReceiver(
        settings, building.metrics, watching.rooms, watching.fleet, watching.broadcast.publish,
        building.stop.died, tracing=building.tracing,
    )  # fmt: skip
    receiver.start()
    building.ends_with(receiver, RELAY_S, "relay")
    building.signs.append(lambda: receiver.last_poll)
    measure_relay(building.metrics, receiver)
    await _connected(receiver)
    delay_s = receiver.processes.delay_s
    start_serving(building, watching, receiver_checks(receiver), delay_s)
    building.start_jobs(watch_thread(receiver, building.stop.died), receiver.assignment.run())


async def _connected(receiver: RelayReceiver) -> None:
    """Where to read from is settled before the first state is read: so joining has no gap."""
    await asyncio.to_thread(receiver.connected.wait, CONNECT_S)


async def start(role: str, building: Building) -> None:
    """Everything that the role has; raises KeyError for one that there is not."""
    building.start_tracing(role)
    await ROLES[role](building)
    building.start_jobs(measure_loop(building.metrics))
    measure_process(building.metrics, building.engines)


ROLES: Final[dict[str, Callable[[Building], Awaitable[None]]]] = {
    "all": start_all,
    "ingest": start_ingest,
    "live": start_live,
}
