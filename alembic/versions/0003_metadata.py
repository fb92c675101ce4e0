"""Metadata of ended trips only, that does not contradict itself, also across the antimeridian."""

from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | None = None
depends_on: str | None = None

# Maintenance computes every row anew: the old ones hold what was wrong.
UPGRADE = """
DROP TABLE route_metadata;
CREATE TABLE route_metadata (
    track_id uuid PRIMARY KEY REFERENCES tracks ON DELETE CASCADE,
    head_seq bigint NOT NULL,
    waypoint_count bigint NOT NULL,
    distance_m double precision NOT NULL,
    duration_s double precision NOT NULL,
    longest_gap_s double precision,
    moving_s double precision,
    average_speed_kmh double precision,
    max_speed_kmh double precision,
    west double precision,
    south double precision,
    east double precision,
    north double precision,
    simplified geometry(Geometry, 4326),
    updated_at timestamptz NOT NULL DEFAULT now()
);
DROP INDEX tracks_unsettled;
UPDATE tracks SET settled = false WHERE settled;
ALTER TABLE tracks RENAME settled TO metadata_current;
CREATE INDEX tracks_metadata_waiting ON tracks (completed_at)
    WHERE NOT metadata_current AND status <> 'active';
"""

DOWNGRADE = """
DROP TABLE route_metadata;
CREATE TABLE route_metadata (
    track_id uuid PRIMARY KEY REFERENCES tracks ON DELETE CASCADE,
    head_seq bigint NOT NULL,
    distance_m real NOT NULL DEFAULT 0,
    duration_s real NOT NULL DEFAULT 0,
    moving_s real NOT NULL DEFAULT 0,
    average_speed_kmh real,
    max_speed_kmh real,
    waypoint_count bigint NOT NULL,
    longest_gap_s real,
    bounding_box geometry(Geometry, 4326),
    simplified geometry(Geometry, 4326),
    updated_at timestamptz NOT NULL DEFAULT now()
);
DROP INDEX tracks_metadata_waiting;
ALTER TABLE tracks RENAME metadata_current TO settled;
UPDATE tracks SET settled = false WHERE settled;
CREATE INDEX tracks_unsettled ON tracks (id) WHERE NOT settled;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
