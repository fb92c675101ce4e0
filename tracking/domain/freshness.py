"""Is what a viewer sees still true? Live, stale or lost, and why. Pure.

A position is live for STALE_AFTER since the report that moved the marker came to Kafka. Reports
that do not move it (late, parked, refused, repeated) do not make it live again; they tell only that
the runner is heard, and that is the reason then.
"""

from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias

from msgspec import Struct

State: TypeAlias = Literal["live", "stale", "lost"]
Reason: TypeAlias = Literal["no_points", "no_usable_points", "pipeline_delayed"]

LIVE: Final[tuple[State, Reason | None]] = ("live", None)
# Phones report every 5 to 10 s: three reports are missing.
STALE_AFTER: Final = timedelta(seconds=30)
# Longer than any tunnel of a city: the phone is off, or out of reach.
LOST_AFTER: Final = timedelta(seconds=120)
# The pipeline is behind for so long before a viewer's silence is our own.
DELAYED_AFTER_S: Final = 10.0
# Between two reports, until a trip shows its own pace; and the longest that is believed.
USUAL_INTERVAL: Final = timedelta(seconds=10)
LONGEST_INTERVAL: Final = timedelta(seconds=60)
# How much a new interval counts: some five reports shape the estimate.
WEIGHT: Final = 0.2


class Freshness(Struct, frozen=True):
    """`reason` is None while live. `last_received_at`: when the last report came, shown or not.

    `next_expected_at`: when the next report is due; None when lost and silent.
    """

    state: State
    reason: Reason | None
    last_received_at: datetime | None
    next_expected_at: datetime | None


class Reports:
    """What is known of a trip's reports: when they came, and how often they come.

    Times are Kafka's. `heard_at`: of the newest report, whatever became of it. `shown_at`: of the
    newest one that moved the marker.
    """

    def __init__(self) -> None:
        self.interval = USUAL_INTERVAL
        self.heard_at: datetime | None = None
        self.shown_at: datetime | None = None

    def heard(self, at: datetime) -> None:
        """A report that may be older than others: a replay brings such."""
        self.heard_at = at if self.heard_at is None else max(self.heard_at, at)

    def shown(self, at: datetime) -> None:
        """A report that moved the marker."""
        self.heard(at)
        self.shown_at = at

    def learn(self, gap: timedelta) -> None:
        """The recorded time between two positions that followed each other."""
        if timedelta(0) < gap <= LONGEST_INTERVAL:
            self.interval += (gap - self.interval) * WEIGHT


def judge(
    now: datetime, began_at: datetime, last_at: datetime | None, reports: Reports, delay_s: float
) -> tuple[State, Reason | None]:
    """State and reason: how long ago the marker moved, or the trip began without a position.

    `last_at`: when the last known position came to Kafka, as the database has it; what was heard
    since then is newer. `delay_s`: by how much our own pipeline is behind; 0 when it is not.
    """
    silence = now - (reports.shown_at or last_at or began_at)
    if silence < STALE_AFTER:
        return LIVE
    state: State = "stale" if silence < LOST_AFTER else "lost"
    if delay_s > DELAYED_AFTER_S:
        return state, "pipeline_delayed"
    return state, "no_usable_points" if _is_heard(now, reports.heard_at or last_at) else "no_points"


def _is_heard(now: datetime, heard_at: datetime | None) -> bool:
    return heard_at is not None and now - heard_at < STALE_AFTER


def freshness_of(
    now: datetime, began_at: datetime, last_at: datetime | None, reports: Reports, delay_s: float
) -> Freshness:
    """How old what is seen is, as `judge` says, and when the next report is due."""
    state, reason = judge(now, began_at, last_at, reports, delay_s)
    heard_at = reports.heard_at or last_at
    if state == "live":
        return Freshness(state, reason, heard_at, (heard_at or began_at) + reports.interval)
    # What is overdue is expected at any moment.
    is_expected = state == "stale" or _is_heard(now, heard_at)
    return Freshness(state, reason, heard_at, now + reports.interval if is_expected else None)
