"""The SHA-256 of an ended trip's route: page by page, in memory that does not grow with it."""

from hashlib import sha256

import sqlalchemy as sa

from tracking.domain.canonical import HEAD, READ, canonical_rows
from tracking.domain.tracks import TrackView
from tracking.store.read.points import page
from tracking.store.read.routes import RouteSlice


def route_sha256(engine: sa.Engine, track: TrackView) -> str | None:
    """In hexadecimal; None if the route is not the track's any more: it is settled again then."""
    digest, count, place = sha256(HEAD), 0, None
    part = RouteSlice(track.id, 0, track.head_seq)
    while True:
        points, place, *_ = page(engine, part, READ, place)
        digest.update(canonical_rows(points))
        count += points.count
        if place is None:
            return digest.hexdigest() if count == track.waypoint_count else None
