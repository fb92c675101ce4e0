"""A report is the same by what the phone said: two positions of one instant are two waypoints."""

from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | None = None
depends_on: str | None = None

# Two indexes of waypoints become two: the order of the route with the position in it, and seq with
# the partition key in it, as the primary key of a partitioned table must have.
UPGRADE = """
CREATE UNIQUE INDEX waypoints_order ON waypoints
    (track_id, recorded_at, runner_id, reported_at, ST_X(position), ST_Y(position));
ALTER TABLE waypoints DROP CONSTRAINT waypoints_pkey;
ALTER TABLE waypoints ADD PRIMARY KEY (track_id, seq, recorded_at);
DROP INDEX waypoints_seq;

ALTER TABLE tracks ADD COLUMN shown_until timestamptz, ADD COLUMN ahead_until timestamptz;
UPDATE tracks t SET shown_until = (SELECT max(w.recorded_at) FROM waypoints w
    WHERE w.track_id = t.id) WHERE t.head_seq > t.waypoint_count;
UPDATE tracks t SET ahead_until = w.ahead_until
    FROM (SELECT track_id, max(reported_at) AS ahead_until FROM waypoints
          WHERE recorded_at <> reported_at AND reported_at > recorded_at GROUP BY track_id) w
    WHERE w.track_id = t.id;

-- What is there was believed as it was told.
ALTER TABLE booking_facts ADD COLUMN heard_at timestamptz;

ALTER TABLE parked_updates ADD COLUMN occurred_at timestamptz;
UPDATE parked_updates SET occurred_at = least(recorded_at, received_at);
ALTER TABLE parked_updates ALTER COLUMN occurred_at SET NOT NULL;
ALTER TABLE parked_updates DROP CONSTRAINT parked_updates_key;
ALTER TABLE parked_updates ADD CONSTRAINT parked_updates_key
    UNIQUE NULLS NOT DISTINCT (runner_id, booking_id, reported_at, occurred_at, position);
"""

# What differs by its position only is told apart by microseconds: no row is lost, seq has no gap.
DOWNGRADE = """
WITH twins AS (
    SELECT track_id, recorded_at, seq, row_number() OVER (
        PARTITION BY track_id, recorded_at, runner_id, reported_at ORDER BY seq) - 1 AS number
    FROM waypoints)
UPDATE waypoints w SET reported_at = w.reported_at + interval '1 microsecond' * t.number
    FROM twins t WHERE t.number > 0 AND w.track_id = t.track_id AND w.seq = t.seq
    AND w.recorded_at = t.recorded_at;
CREATE INDEX waypoints_seq ON waypoints (track_id, seq);
ALTER TABLE waypoints DROP CONSTRAINT waypoints_pkey;
ALTER TABLE waypoints ADD PRIMARY KEY (track_id, recorded_at, runner_id, reported_at);
DROP INDEX waypoints_order;

ALTER TABLE tracks DROP COLUMN shown_until, DROP COLUMN ahead_until;
ALTER TABLE booking_facts DROP COLUMN heard_at;

DELETE FROM parked_updates p USING parked_updates o
    WHERE o.id < p.id AND o.runner_id = p.runner_id AND o.reported_at = p.reported_at
    AND o.booking_id IS NOT DISTINCT FROM p.booking_id;
ALTER TABLE parked_updates DROP COLUMN occurred_at;
ALTER TABLE parked_updates ADD CONSTRAINT parked_updates_key
    UNIQUE NULLS NOT DISTINCT (runner_id, booking_id, reported_at);
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
