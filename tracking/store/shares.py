"""Share links: a public look at one booking for a while. Only a token's hash is kept."""

from collections.abc import Collection
from datetime import datetime
from hashlib import sha256
from typing import Any, Final
from uuid import UUID, uuid4

import sqlalchemy as sa

from tracking.domain.shares import OpenShare, Share, ShareTerms
from tracking.errors import InvalidRequest, NotFound
from tracking.store.engine import translated
from tracking.store.sql import uuid_array
from tracking.store.statements import transaction

# Of one booking at the same time: more than anybody hands out, few enough to be listed at once.
MOST_OPEN: Final = 1_000
# So many of the newest are listed, the closed ones included.
MOST_LISTED: Final = 1_000
# A closed link is listed for so long.
KEPT: Final = "interval '7 days'"

# A link made after the trip's end counts from when it was made. Before the acceptance there is no
# track.
STATUS: Final = """
    CASE WHEN s.revoked_at IS NOT NULL THEN 'revoked'
         WHEN s.expires_at <= now() THEN 'expired'
         WHEN t.status <> 'active' AND greatest(t.completed_at, s.created_at)
              + s.after_end_s * interval '1 second' <= now() THEN 'ended'
         WHEN s.from_pickup AND coalesce(t.phase, 'to_pickup') = 'to_pickup' THEN 'waiting'
         ELSE 'active' END
"""
FROM: Final = "FROM share_links s LEFT JOIN tracks t ON t.booking_id = s.booking_id"
LISTED: Final = f"""
    SELECT s.id, s.label, s.from_pickup, s.after_end_s, s.created_at, s.expires_at, {STATUS},
           s.opens, s.last_opened_at {FROM}
"""
OPEN: Final = f"({STATUS}) IN ('active', 'waiting')"


@translated
def create_share(
    engine: sa.Engine, booking_id: UUID, token: str, created_by: UUID, terms: ShareTerms
) -> Share:
    """The new link. InvalidRequest when the booking has too many, NotFound when it was erased.

    The lock waits for an erasure, which waits for it: no link is left behind.
    """
    share_id = uuid4()
    with transaction(engine) as cursor:
        cursor.execute(
            "SELECT FROM bookings WHERE booking_id = %s AND erased_at IS NULL FOR KEY SHARE",
            (booking_id,),
        )
        if cursor.fetchone() is None:
            raise NotFound("no such booking")
        cursor.execute(
            """
            INSERT INTO share_links (id, booking_id, token_sha256, created_by, label, from_pickup,
                after_end_s, expires_at)
            SELECT %s, %s, %s, %s, %s, %s, %s, now() + %s * interval '1 second'
            WHERE (SELECT count(*) FROM share_links WHERE booking_id = %s AND revoked_at IS NULL
                   AND expires_at > now()) < %s
            """,
            (share_id, booking_id, digest(token), created_by, terms.label, terms.from_pickup,
             terms.after_end_s, terms.expires_in_s, booking_id, MOST_OPEN),
        )  # fmt: skip
        cursor.execute(f"{LISTED} WHERE s.id = %s", (share_id,))
        row = cursor.fetchone()
    if row is None:
        raise InvalidRequest(f"the booking has {MOST_OPEN} open share links: revoke some first")
    return Share(*row)


@translated
def list_shares(engine: sa.Engine, booking_id: UUID) -> list[Share]:
    """The newest first."""
    with transaction(engine) as cursor:
        cursor.execute(
            f"{LISTED} WHERE s.booking_id = %s"
            f" ORDER BY s.created_at DESC, s.id LIMIT {MOST_LISTED}",
            (booking_id,),
        )
        return [Share(*row) for row in cursor]


@translated
def change_share(
    engine: sa.Engine, booking_id: UUID, share_id: UUID, changes: dict[str, Any]
) -> Share | None:
    """The link with other terms (`expires_in_s` counts from now); None if it is not this booking's.

    Raises InvalidRequest for a revoked one: that is for good.
    """
    columns = {name: changes[name] for name in ("label", "after_end_s") if name in changes}
    assignments = [f"{name} = %s" for name in columns]
    values = list(columns.values())
    if "expires_in_s" in changes:
        assignments.append("expires_at = now() + %s * interval '1 second'")
        values.append(changes["expires_in_s"])
    with transaction(engine) as cursor:
        if assignments:
            cursor.execute(
                f"UPDATE share_links SET {', '.join(assignments)}"
                " WHERE id = %s AND booking_id = %s AND revoked_at IS NULL",
                (*values, share_id, booking_id),
            )
        cursor.execute(f"{LISTED} WHERE s.id = %s AND s.booking_id = %s", (share_id, booking_id))
        row = cursor.fetchone()
    share = None if row is None else Share(*row)
    if share is not None and share.status == "revoked":
        raise InvalidRequest("the share link was revoked, and that is for good")
    return share


@translated
def revoke_share(engine: sa.Engine, booking_id: UUID, share_id: UUID) -> bool:
    """Idempotent; false if it is not this booking's."""
    with transaction(engine) as cursor:
        cursor.execute(
            "UPDATE share_links SET revoked_at = coalesce(revoked_at, now())"
            " WHERE id = %s AND booking_id = %s",
            (share_id, booking_id),
        )
        return bool(cursor.rowcount)


@translated
def find_share(engine: sa.Engine, token: str) -> OpenShare | None:
    """What the token opens; None if it is unknown, expired, revoked, or the trip is long over."""
    with transaction(engine) as cursor:
        cursor.execute(
            f"SELECT s.id, s.booking_id, s.from_pickup, s.expires_at {FROM}"
            f" WHERE s.token_sha256 = %s AND {OPEN}",
            (digest(token),),
        )
        row = cursor.fetchone()
    return None if row is None else OpenShare(*row)


@translated
def count_opening(engine: sa.Engine, share_id: UUID) -> None:
    """Somebody looks through it who did not before."""
    with transaction(engine) as cursor:
        cursor.execute(
            "UPDATE share_links SET opens = opens + 1, last_opened_at = now() WHERE id = %s",
            (share_id,),
        )


@translated
def still_open(engine: sa.Engine, share_ids: Collection[UUID]) -> dict[UUID, datetime]:
    """Those of the links that are open, and until when: one statement for all."""
    with transaction(engine) as cursor:
        cursor.execute(
            f"SELECT s.id, s.expires_at {FROM} WHERE s.id = ANY(%s::uuid[]) AND {OPEN}",
            (uuid_array(share_ids),),
        )
        return dict(cursor)


def delete_closed(engine: sa.Engine) -> None:
    """Nobody can open them any more, and their owners have had time to see that."""
    with transaction(engine) as cursor:
        cursor.execute(
            f"DELETE FROM share_links WHERE least(expires_at, revoked_at) < now() - {KEPT}"
        )


def digest(token: str) -> bytes:
    """What is kept of a token."""
    return sha256(token.encode()).digest()
