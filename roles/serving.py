"""What serves the clients: of the roles `all` and `live`. IOLoop thread."""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final
from uuid import UUID

from handlers import main_routes, management_routes
from handlers.access_log import AccessLog
from handlers.application import descriptors
from handlers.erasure_check import check_erasures
from handlers.grace import Grace
from handlers.limits import Limits
from handlers.link_check import ANSWER_S, LINK_THREADS, check_links
from handlers.link_viewers import LinkViewers
from handlers.openings import Openings
from handlers.services import Services
from handlers.websocket.ticker import tick_viewers
from roles.building import Building
from tracking.domain.accesses import Access
from tracking.domain.tracks import LiveState
from tracking.keys import KeySet
from tracking.live.asking import AT_ONCE, Asking
from tracking.live.broadcast import Broadcast
from tracking.live.etas import Etas
from tracking.live.fleet import Fleet, tell_fleet
from tracking.live.freshness import tell_freshness
from tracking.live.healing import Healing
from tracking.live.rooms import Rooms
from tracking.live.sender import fastest_sender
from tracking.receipts import ReceiptKeys
from tracking.settings import Settings
from tracking.store.accesses import add
from tracking.store.answers import keep_answers
from tracking.store.calls import READ_STATEMENT_S, REQUEST_STATEMENT_S, StoreCalls
from tracking.store.read.live import live_state, track_versions
from tracking.store.read.recent_erasures import erased_within
from tracking.store.read.samples import ends_of, read_samples
from tracking.store.shares import still_open
from tracking.tokens import tokens_of
from workers.eta_router import EtaRouter
from workers.jwks import KeyFetcher
from workers.monitoring.readiness import Check
from workers.monitoring.watchdog import measure_viewers

# What the process needs besides viewers: databases, Kafka, logs, requests.
RESERVED_DESCRIPTORS: Final = 200
# What is left of the access log, at the end.
ACCESSES_S: Final = 2.0
# Whole routes at once; each is read a page at a time, so more of them take turns.
READ_THREADS: Final = 4


class Watching:
    """Who will watch, before anybody is let in: what publishes needs it."""

    def __init__(self, building: Building) -> None:
        metrics = building.metrics
        self.rooms, self.fleet = Rooms(), Fleet(metrics)
        self.broadcast = Broadcast(self.rooms, metrics, fastest_sender(), self.fleet)


def start_serving(
    building: Building,
    watching: Watching,
    checks: dict[str, Check],
    delay_s: Callable[[], float],
) -> None:
    """Open the ports for clients. `delay_s`: by how much our own pipeline is behind."""
    settings, metrics = building.settings, building.metrics
    # One connection more than threads: readiness has a thread of its own.
    requests = building.engine("requests", settings.db_pool_size + 1, REQUEST_STATEMENT_S)
    reads = building.engine("reads", READ_THREADS, READ_STATEMENT_S)
    transactions = building.transactions("transactions", 1, READ_STATEMENT_S)
    tokens = tokens_of(settings)
    readiness = building.readiness(requests, {**checks, "keys": tokens.keys.status})
    calls = building.calls(requests, "requests", settings.db_pool_size)
    etas = Etas(
        watching.rooms, partial(calls.ask, read_samples), partial(calls.ask, ends_of),
        _asking(building, watching.rooms, calls),
    )  # fmt: skip
    services = Services(
        settings=settings, metrics=metrics, readiness=readiness.check,
        limits=Limits(settings, _max_viewers(settings)),
        requests=calls,
        reads=building.calls(reads, "reads", READ_THREADS),
        transactions=building.calls(transactions, "transactions", 1),
        tokens=tokens, rooms=watching.rooms, fleet=watching.fleet, delay_s=delay_s,
        grace=Grace(settings.unknown_booking_grace, delay_s), link_viewers=LinkViewers(),
        openings=Openings(), etas=etas, access_log=_access_log(building),
        receipts=ReceiptKeys(settings.receipt_key, settings.receipt_old_keys),
    )  # fmt: skip
    _keep_access_log(building, services)
    building.start_jobs(_healing(services, watching.broadcast).watch())
    _start_jobs(building, services)
    measure_viewers(metrics, watching.rooms, watching.fleet)
    main, management = main_routes(settings), management_routes()
    building.serve(services, main, management, services.everybody)


def _asking(building: Building, rooms: Rooms, calls: StoreCalls) -> Asking | None:
    settings = building.settings
    if not settings.eta_router_url:
        return None
    router = EtaRouter(settings, building.metrics, AT_ONCE)
    building.stack.callback(router.close)
    return Asking(rooms, router.seconds, partial(calls.ask, keep_answers))


def _healing(services: Services, broadcast: Broadcast) -> Healing:
    async def read_state(booking_id: UUID) -> LiveState | None:
        return await services.ask(live_state, booking_id)

    async def read_versions(ids: Collection[UUID] | None) -> dict[UUID, int]:
        return await services.ask(track_versions, ids)

    rooms, fleet, metrics = services.rooms, services.fleet, services.metrics
    return Healing(rooms, fleet, broadcast, read_state, read_versions, metrics)


def _start_jobs(building: Building, services: Services) -> None:
    """What runs on the loop for as long as the server does."""
    settings, metrics, delay_s = services.settings, services.metrics, services.delay_s
    links = _link_calls(building)
    building.start_jobs(
        tick_viewers(services.everybody, metrics),
        tell_freshness(services.rooms, metrics, delay_s),
        tell_fleet(services.fleet, metrics, delay_s),
        services.etas.watch(),
        # On connections of its own: an answer that waits behind requests comes too late.
        check_links(services.link_viewers, partial(links.ask, still_open)),
        check_erasures(services.rooms, services.replays, partial(links.ask, erased_within)),
    )
    if settings.jwt_jwks_url:
        keys = services.tokens.keys
        assert isinstance(keys, KeySet)
        fetcher = KeyFetcher(settings.jwt_jwks_url, settings.jwt_jwks_ca, keys, metrics)
        building.start_jobs(fetcher.run())


def _access_log(building: Building) -> AccessLog:
    is_kept = bool(building.settings.keep_accesses)
    return AccessLog(building.metrics.accesses, is_kept=is_kept)


def _keep_access_log(building: Building, services: Services) -> None:
    """Written beside the requests; what is left is written when nobody is served any more."""

    async def write(accesses: Sequence[Access]) -> None:
        await services.ask(add, accesses)

    building.stack.push_async_callback(
        building.stop.within, ACCESSES_S, "access log", partial(services.access_log.close, write)
    )
    building.start_jobs(services.access_log.keep_writing(write))


def _link_calls(building: Building) -> StoreCalls:
    return building.calls(building.engine("links", LINK_THREADS, ANSWER_S), "links", LINK_THREADS)


def _max_viewers(settings: Settings) -> int:
    """Out of descriptors the accept loop would spin: stay below the limit."""
    allowed = max(descriptors() - RESERVED_DESCRIPTORS, 1)
    return min(settings.max_viewers or allowed, allowed)
