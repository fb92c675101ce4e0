"""Who has come to the pickup or the dropoff: computed beside ingest, told once.

While a trip lasts only its newest waypoints are looked at; when its route has changed otherwise,
and once more when it has ended, the whole of each way is. So the last word depends neither on the
order of the events nor on when somebody looked.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from msgspec import Struct, field

from tracking.domain.arrivals import arrival_of
from tracking.domain.changes import BookingChanges
from tracking.domain.eta import Sample
from tracking.domain.hops import Recorded
from tracking.domain.legs import ways_of
from tracking.domain.verdicts import STANDARD, Rule
from tracking.store.engine import is_transient
from tracking.store.maintenance.approaches import Due, candidate_of, close_to_an_end, waypoints_of
from tracking.store.maintenance.looking import IsSoon, Look, Looks, Reading, look_at
from tracking.store.maintenance.sampling import forget_answers, keep_samples
from tracking.store.maintenance.telling import Finding, stored_findings, tell
from tracking.store.statements import Statements, transaction

# Any number: one process looks, the others leave it to that one.
ARRIVALS_LOCK: Final = 7_242_003
# Tracks of one round: half a second when all of them stand at a door.
AT_ONCE: Final = 200
# Between a transaction's begin, which its rows show, and its commit.
COMMIT: Final = timedelta(seconds=60)
# A longer route has no summary either; and a round that has read so many leaves the rest for the
# next one.
MOST_WAYPOINTS: Final = 100_000

# A track whose arrivals could not be computed, why, and whether it is the first time.
Failed = Callable[[UUID, Exception, bool], None]


def note_arrivals(
    engine: sa.Engine,
    looks: Looks,
    rule: Rule = STANDARD,
    is_soon: IsSoon | None = None,
    failed: Failed = lambda *_: None,
) -> list[BookingChanges]:
    """One round over the trips that are under way; what is to be told of them.

    If it fails for what a track is like, each is looked at alone: one costs the others nothing. It
    is postponed, and `failed` is called: with True for the first time.
    """
    try:
        return _round(engine, looks, rule, is_soon)
    except Exception as error:
        if is_transient(error):
            raise
    changes: list[BookingChanges] = []
    for track_id in looks.due:
        try:
            changes += _round(engine, looks, rule, is_soon, track_id)
        except Exception as error:
            if is_transient(error):
                break  # the next round has the rest; these changes are committed
            failed(track_id, error, looks.postpone(track_id))
    return changes


def _round(
    engine: sa.Engine, looks: Looks, rule: Rule, is_soon: IsSoon | None, only: UUID | None = None
) -> list[BookingChanges]:
    """Of all tracks that are due, or of one of them: in one transaction."""
    looks.due = [] if only is None else looks.due
    with transaction(engine) as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s), now()", (ARRIVALS_LOCK,))
        is_ours, now = cursor.fetchone() or (False, None)
        if not is_ours:
            return []
        due = Due(looks.since, looks.versions(), looks.postponed(), only, MOST_WAYPOINTS,
                  looks.soon_m)  # fmt: skip
        tracks = close_to_an_end(cursor, due, AT_ONCE)
        if only is None:
            looks.due = [track.id for track in tracks]
            if len(tracks) < AT_ONCE:
                looks.all_due(looks.due)
        reading, findings, found = Reading(cursor, rule), [], {}
        for track in tracks:
            if reading.count > MOST_WAYPOINTS:
                break  # the others are due again
            listed, look = look_at(reading, track, looks.of(track.id), is_soon)
            findings += listed
            found[track.id] = look
        told = tell(cursor, findings, now)
        versions = {each.track_id: each.version for each in told.moved}
    for track_id, look in found.items():
        if track_id not in told.outdated:
            version = versions.get(track_id, look.version)
            looks.put(track_id, _at_version(look, version))
    if only is None and len(found) < AT_ONCE and len(found) == len(tracks) and not looks.has_failed:
        looks.since = now - COMMIT
    return told.changes


def _at_version(look: Look, version: int) -> Look:
    return Look(version, *(getattr(look, name) for name in Look.__struct_fields__[1:]))


# Of a trip that ended before, and of which nothing was said, nothing is said any more: nobody waits
# for a message of last week, and an ETA is not learned from last year (verdicts.py settles it all).
TOLD_WITHIN_S: Final = 7 * 86_400.0


class Settled(Struct, frozen=True):
    """The track's version behind it, what is to be told, and the samples that were kept."""

    version: int
    changes: list[BookingChanges] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)


def settle_arrivals(engine: sa.Engine, track_id: UUID, version: int) -> Settled | None:
    """The last word on an ended trip whose verdicts are stored.

    None: the track changed meanwhile, nothing was stored.
    """
    with transaction(engine) as cursor:
        settled = _settle(cursor, track_id, version)
        if settled is not None:
            forget_answers(cursor, track_id)
    return settled


def _settle(cursor: Statements, track_id: UUID, version: int) -> Settled | None:
    cursor.execute("SELECT now()")
    (now,) = cursor.fetchone() or (None,)
    track = candidate_of(cursor, track_id)
    if track is None or track.waypoint_count > MOST_WAYPOINTS:
        return Settled(version)
    if track.version != version:
        return None
    stored, findings, routes = stored_findings(cursor, track_id), [], []
    ended_s = track.course.ended_s
    if not stored and ended_s is not None and now.timestamp() - ended_s > TOLD_WITHIN_S:
        return Settled(version)
    for way in ways_of(track.course):
        route: Sequence[Recorded] = []
        if track.last_at is not None:
            page = waypoints_of(cursor, track, way, way.from_s)
            route = [w for w in page.route if w.seq not in page.flagged]
        routes.append(route)
        findings.append(Finding(track, way, arrival_of(route, way), stored.get(way.end)))
    told = tell(cursor, findings, now)
    if told.outdated:
        return None
    samples: list[Sample] = []
    for finding, route in zip(findings, routes, strict=True):
        samples += keep_samples(cursor, track_id, finding.way, finding.arrival, route)
    return Settled(told.moved[0].version if told.moved else version, told.changes, samples)
