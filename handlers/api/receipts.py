"""What the platform says of an ended trip, signed; and the keys to check it with."""

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final
from uuid import UUID, uuid4

from msgspec import structs

from handlers.api.tracks import TrackingHandler
from handlers.base import BaseHandler
from tracking.domain.exports import file_name
from tracking.domain.times import rfc3339
from tracking.errors import DatabaseUnavailable, TripActive
from tracking.receipts import state_of
from tracking.store.receipts import (
    Issued,
    Settled,
    keep_receipt,
    newest_receipt,
    settled_trip,
)

# Others may issue one at the same moment: then theirs is there.
TRIES: Final = 3
# Of `Settled`, under its own name: what a receipt says.
_TIMES: Final = ("started_at", "completed_at")
_NAMES: Final = {"head_seq": "seq"}
_NOT_SAID: Final = ("booking_number", "sums")


class ReceiptHandler(TrackingHandler):
    """`GET /api/v1/tracking/{bookingId}/receipt`: a compact JWS (RFC 7515)."""

    route = "/api/v1/tracking/{bookingId}/receipt"

    async def get(self, booking_id: str) -> None:
        track, _ = await self.requested(booking_id)
        if not self.services.receipts.can_sign:
            self.reject(404, "this service issues no receipts")
            return
        settled = await self._settled(track.id)
        self.set_header("Content-Type", "application/jose")
        self.set_header("Cache-Control", "private, no-cache")
        name = file_name(settled.booking_number, track.booking_id, "receipt.jws")
        self.set_header("Content-Disposition", f'attachment; filename="{name}"')
        if not await self.was_head():
            self.write(await self._receipt(track.id))

    async def _settled(self, track_id: UUID) -> Settled:
        settled: Settled | None = await self.services.ask(settled_trip, track_id)
        if settled is None or settled.route_sha256 is None:
            raise TripActive("the trip is not over, or not settled yet")
        return settled

    async def _receipt(self, track_id: UUID) -> str:
        """The newest one, if it says the same; else one that replaces it.

        What is settled is read behind the newest one: an older state never replaces a newer one.
        """
        for _ in range(TRIES):
            newest = await self.services.ask(newest_receipt, track_id)
            settled = await self._settled(track_id)
            said = claims_of(settled)
            state = state_of(said)
            # What was issued before receipts had sums still says nothing else: it stays.
            if newest is not None and newest.state in (state, state_of(without_sums(settled))):
                return str(newest.token)
            receipt = self._new(said, state, newest)
            if await self.services.ask(keep_receipt, track_id, receipt):
                return receipt.token
        raise DatabaseUnavailable("the receipt could not be kept")

    def _new(self, said: dict[str, Any], state: str, newest: Issued | None) -> Issued:
        replaces = None if newest is None else sha256(newest.token.encode()).hexdigest()
        claims = {
            "iss": self.services.settings.public_url,
            "iat": int(datetime.now(UTC).timestamp()),
            "jti": str(uuid4()),
            "replaces": replaces,
            **said,
        }
        number = 1 if newest is None else newest.number + 1
        return Issued(number, state, self.services.receipts.sign(claims))


def claims_of(settled: Settled) -> dict[str, Any]:
    """What it says of the trip."""
    return {**without_sums(settled), **structs.asdict(settled.sums)}


def without_sums(settled: Settled) -> dict[str, Any]:
    """What it said before there were sums in it."""
    found: dict[str, Any] = {}
    for name, value in structs.asdict(settled).items():
        if name not in _NOT_SAID:
            is_time = name in _TIMES and value is not None
            plain = rfc3339(value) if is_time else value
            found[_NAMES.get(name, name)] = str(plain) if name.endswith("_id") else plain
    return found


class JwksHandler(BaseHandler):
    """`GET /.well-known/jwks.json`: public keys (RFC 7517), the one that signs and older ones."""

    route = "/.well-known/jwks.json"

    async def get(self) -> None:
        # A new key is there before it signs, if it was among the old ones for so long.
        self.set_header("Cache-Control", "public, max-age=300")
        self.write_json(self.services.receipts.jwks)
