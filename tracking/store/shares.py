"""Share links: a public look at one booking for a while. Only a token's hash is kept."""

from datetime import datetime
from hashlib import sha256
from uuid import UUID, uuid4

import sqlalchemy as sa

from tracking.store.engine import translated
from tracking.store.models import ShareLink


@translated
def create_share(
    engine: sa.Engine, booking_id: UUID, token: str, created_by: UUID, expires_at: datetime
) -> UUID:
    """The new link's id."""
    share_id = uuid4()
    with engine.begin() as connection:
        connection.execute(
            sa.insert(ShareLink).values(
                id=share_id,
                booking_id=booking_id,
                token_sha256=_digest(token),
                created_by=created_by,
                expires_at=expires_at,
            )
        )
    return share_id


@translated
def find_share(engine: sa.Engine, token: str) -> tuple[UUID, datetime] | None:
    """The booking that a token opens and until when; None if unknown or expired."""
    statement = sa.select(ShareLink.booking_id, ShareLink.expires_at).where(
        ShareLink.token_sha256 == _digest(token), ShareLink.expires_at > sa.func.now()
    )
    with engine.connect() as connection:
        row = connection.execute(statement).first()
    return None if row is None else (row[0], row[1])


def delete_expired(engine: sa.Engine) -> None:
    """Nobody can open them any more."""
    with engine.begin() as connection:
        connection.execute(sa.delete(ShareLink).where(ShareLink.expires_at < sa.func.now()))


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()
