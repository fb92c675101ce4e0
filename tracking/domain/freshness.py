"""Is what a viewer sees still true? Live, stale or lost, and whose silence it is. Pure."""

from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias

from msgspec import Struct

State: TypeAlias = Literal["live", "stale", "lost"]
Reason: TypeAlias = Literal["no_points", "pipeline_delayed"]

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
    """`reason` is None while live. `next_expected_at` is when the next report is due."""

    state: State
    reason: Reason | None
    last_received_at: datetime | None
    next_expected_at: datetime | None


class Silence:
    """How often a trip's phone reports, learned from the reports themselves."""

    def __init__(self) -> None:
        self.interval = USUAL_INTERVAL

    def learn(self, gap: timedelta) -> None:
        """The recorded time between two positions that followed each other."""
        if timedelta(0) < gap <= LONGEST_INTERVAL:
            self.interval += (gap - self.interval) * WEIGHT


def freshness_of(
    now: datetime, heard_at: datetime, has_point: bool, interval: timedelta, delay_s: float
) -> Freshness:
    """`heard_at`: when the platform got the last report, or the trip began without one yet.

    `delay_s`: by how much our own pipeline is behind; 0 when it is not.
    """
    silence = now - heard_at
    last = heard_at if has_point else None
    if silence < STALE_AFTER:
        return Freshness("live", None, last, heard_at + interval)
    reason: Reason = "pipeline_delayed" if delay_s > DELAYED_AFTER_S else "no_points"
    state: State = "stale" if silence < LOST_AFTER else "lost"
    # What is overdue is expected at any moment.
    return Freshness(state, reason, last, now + interval if state == "stale" else None)
