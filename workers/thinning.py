"""Which of the unsent positions a round sends. Pure functions, any thread."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from tracking.store.outbox.watermarks import Published, Span, UnsentTrack, UnsentWaypoint


def fair_shares(wanted: Sequence[int], limit: int) -> list[int]:
    """How many of `limit` each gets: what it wants, or as much as any other that wants more."""
    shares = [0] * len(wanted)
    for position, index in enumerate(sorted(range(len(wanted)), key=wanted.__getitem__)):
        shares[index] = min(wanted[index], limit // (len(wanted) - position))
        limit -= shares[index]
    return shares


def spans(tracks: Sequence[UnsentTrack], shares: Sequence[int]) -> list[Span]:
    """The seqs that a round reads: each track's share, and its newest position if thinned away."""
    found: list[Span] = []
    for track, share in zip(tracks, shares, strict=True):
        first, newest = track.published_seq + 1, track.newest_seq
        if newest is not None and newest < first:
            found.append((track.id, newest, newest, track.started_at))
        if share:
            found.append((track.id, first, first + share - 1, track.started_at))
    return found


def pass_gone(
    tracks: Sequence[UnsentTrack], shares: Sequence[int], published: dict[str, Published]
) -> None:
    """What was read has gone out to the end of each share, also where rows are missing.

    All were committed; those of a runner who was erased are gone, and no event may wait for them.
    """
    for track, share in zip(tracks, shares, strict=True):
        if share:
            none = Published(track.published_seq, track.published_at, track.started_at)
            far = published.setdefault(track.track_id, none)
            far.seq = max(far.seq, track.published_seq + share)


def thinned(
    waypoints: Sequence[UnsentWaypoint], tracks: Mapping[str, UnsentTrack], interval: timedelta
) -> tuple[list[UnsentWaypoint], dict[str, Published]]:
    """Those that go out, and up to where their tracks have gone out then. Keys are track ids.

    A position goes out if it was recorded an interval after all that went out, or as the last of
    its trip; never if it has left the route or is left out of it. What is stored decides alone, so
    that another process that goes on decides the same.
    """
    going, published = [], dict[str, Published]()
    for waypoint in waypoints:
        track = tracks[waypoint.track_id]
        far = published.get(waypoint.track_id)
        if far is None:
            far = Published(track.published_seq, track.published_at, waypoint.received_at)
            published[waypoint.track_id] = far
        far.seq, far.received_at = max(far.seq, waypoint.seq), waypoint.received_at
        if waypoint.is_shown and (not interval or _is_due(waypoint, track, far.at, interval)):
            going.append(waypoint)
            far.at = max(far.at or waypoint.recorded_at, waypoint.recorded_at)
    return going, published


def _is_due(
    waypoint: UnsentWaypoint, track: UnsentTrack, newest: datetime | None, interval: timedelta
) -> bool:
    if newest is None or waypoint.recorded_at - newest >= interval:
        return True
    return waypoint.seq == track.newest_seq and waypoint.recorded_at > newest
