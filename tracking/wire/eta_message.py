"""When a runner will arrive, in answers and messages. Any thread may call."""

from datetime import UTC, datetime
from uuid import UUID

from msgspec import Struct

from tracking.domain.eta import Eta, NoEta
from tracking.domain.times import rfc3339


class EtaPart(Struct, frozen=True):
    """Four of five arrivals are between `earliest` and `latest`."""

    arrives_at: str
    earliest: str
    latest: str
    method: str
    samples: int


class EtaMessage(Struct, frozen=True, tag_field="type", tag="eta"):
    """The ETA is another one, or there is none any more, for a reason."""

    booking_id: UUID
    eta: EtaPart | None
    eta_reason: str | None


def eta_part(eta: Eta | NoEta | None) -> EtaPart | None:
    if not isinstance(eta, Eta):
        return None
    times = [_second(at_s) for at_s in (eta.arrives_at, eta.earliest, eta.latest)]
    return EtaPart(times[0], times[1], times[2], eta.method, eta.samples)


def eta_reason(eta: Eta | NoEta | None) -> str | None:
    """Of none."""
    return eta.reason if isinstance(eta, NoEta) else None


def _second(at_s: float) -> str:
    """More digits would say more than is known."""
    return rfc3339(datetime.fromtimestamp(round(at_s), UTC))
