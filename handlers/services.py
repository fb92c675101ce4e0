"""What every handler may use; built once at start, by the process's role."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeVar

from handlers.access_log import AccessLog
from handlers.grace import Grace
from handlers.limits import Limits
from handlers.link_viewers import LinkViewers
from handlers.openings import Openings
from tracking.live.etas import Etas
from tracking.live.fleet import Fleet
from tracking.live.recipient import Recipient
from tracking.live.replays import Replays
from tracking.live.rooms import Rooms
from tracking.metrics import Metrics
from tracking.receipts import ReceiptKeys
from tracking.settings import Settings
from tracking.store.calls import StoreCalls
from tracking.tokens import Tokens

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class ManagementServices:
    """What is needed to say how this process does: all that a process without clients has."""

    settings: Settings
    metrics: Metrics
    # Each check's answer: "ok", or what is wrong and what to do.
    readiness: Callable[[], Awaitable[dict[str, str]]]
    limits: Limits


@dataclass(frozen=True, kw_only=True)
class Services(ManagementServices):
    """IOLoop thread; `ask` and `read` cross to threads."""

    requests: StoreCalls
    reads: StoreCalls
    # Functions that are a transaction of several statements.
    transactions: StoreCalls
    tokens: Tokens
    rooms: Rooms
    fleet: Fleet
    # By how many seconds our own pipeline is behind what Kafka has; infinite while nobody knows.
    delay_s: Callable[[], float]
    grace: Grace
    link_viewers: LinkViewers
    openings: Openings
    etas: Etas
    access_log: AccessLog
    replays: Replays = field(default_factory=Replays)
    receipts: ReceiptKeys = field(default_factory=ReceiptKeys)

    async def ask(self, function: Callable[..., R], *arguments: object) -> R:
        """A store function's answer within two seconds, or DatabaseUnavailable."""
        return await self.requests.ask(function, *arguments)

    async def read(self, function: Callable[..., R], *arguments: object) -> R:
        """As `ask`, for what may take longer and must hold up nobody: whole routes."""
        return await self.reads.ask(function, *arguments)

    async def change(self, function: Callable[..., R], *arguments: object) -> R:
        """As `read`, for what changes several tables or none."""
        return await self.transactions.ask(function, *arguments)

    def everybody(self) -> Iterator[Recipient]:
        """Every viewer at this moment, of a booking or of all, safe against leaving meanwhile."""
        return chain(self.rooms.everybody(), self.fleet.everybody(), self.replays.everybody())
