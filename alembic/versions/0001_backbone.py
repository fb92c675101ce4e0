"""The backbone: bookings, tracks, waypoints, and what waits between Kafka and the viewers."""

from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None

# Written as SQL: partitions, NULLS NOT DISTINCT and geometries read best in their own language.
TABLES = """
CREATE TABLE bookings (
    booking_id uuid PRIMARY KEY,
    owner_id uuid,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE booking_facts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    booking_id uuid NOT NULL REFERENCES bookings,
    kind text NOT NULL,
    occurred_at timestamptz NOT NULL,
    runner_id uuid,
    owner_id uuid,
    booking_number text,
    at timestamptz,
    pickup geometry(Point, 4326),
    dropoff geometry(Point, 4326),
    stored_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT booking_facts_key
        UNIQUE NULLS NOT DISTINCT (booking_id, kind, occurred_at, runner_id)
);

CREATE TABLE tracks (
    id uuid PRIMARY KEY,
    booking_id uuid NOT NULL UNIQUE REFERENCES bookings,
    booking_number text,
    owner_id uuid,
    runner_id uuid NOT NULL,
    status text NOT NULL
        CONSTRAINT tracks_status CHECK (status IN ('active', 'completed', 'cancelled')),
    phase text NOT NULL
        CONSTRAINT tracks_phase CHECK (phase IN ('to_pickup', 'to_dropoff', 'done')),
    end_reason text,
    pickup geometry(Point, 4326),
    dropoff geometry(Point, 4326),
    started_at timestamptz NOT NULL,
    picked_up_at timestamptz,
    completed_at timestamptz,
    epoch text NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    head_seq bigint NOT NULL DEFAULT 0,
    waypoint_count bigint NOT NULL DEFAULT 0,
    distance_mm bigint NOT NULL DEFAULT 0,
    last_recorded_at timestamptz,
    last_runner_id uuid,
    last_reported_at timestamptz,
    last_position geometry(Point, 4326),
    settled boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);  -- the head changes with every batch: leave room for HOT updates
CREATE INDEX tracks_active ON tracks (id) WHERE status = 'active';
CREATE INDEX tracks_unsettled ON tracks (id) WHERE NOT settled;

CREATE TABLE assignments (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    booking_id uuid NOT NULL REFERENCES bookings,
    runner_id uuid NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz
);
CREATE INDEX assignments_booking ON assignments (booking_id);
CREATE INDEX assignments_runner ON assignments (runner_id, started_at);

CREATE TABLE waypoints (
    track_id uuid NOT NULL,
    recorded_at timestamptz NOT NULL,
    runner_id uuid NOT NULL,
    reported_at timestamptz NOT NULL,
    seq bigint NOT NULL,
    received_at timestamptz NOT NULL,
    position geometry(Point, 4326) NOT NULL,
    speed_kmh real,
    heading_degrees real,
    in_route boolean NOT NULL DEFAULT true,
    PRIMARY KEY (track_id, recorded_at, runner_id, reported_at)
) PARTITION BY RANGE (recorded_at);
CREATE INDEX waypoints_seq ON waypoints (track_id, seq);
CREATE INDEX waypoints_corrected ON waypoints (track_id, runner_id, reported_at)
    WHERE recorded_at <> reported_at;

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

CREATE TABLE parked_updates (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    runner_id uuid NOT NULL,
    booking_id uuid,
    recorded_at timestamptz NOT NULL,
    reported_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    position geometry(Point, 4326) NOT NULL,
    speed_kmh real,
    heading_degrees real,
    applied boolean NOT NULL DEFAULT false,
    parked_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT parked_updates_key UNIQUE NULLS NOT DISTINCT (runner_id, booking_id, reported_at)
);
CREATE INDEX parked_updates_booking ON parked_updates (booking_id);
CREATE INDEX parked_updates_parked_at ON parked_updates (parked_at);

CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id uuid NOT NULL,
    type text NOT NULL,
    booking_id uuid NOT NULL,
    track_id uuid NOT NULL,
    after_seq bigint NOT NULL,
    data jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE published_watermarks (
    track_id uuid PRIMARY KEY REFERENCES tracks ON DELETE CASCADE,
    published_seq bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE share_links (
    id uuid PRIMARY KEY,
    booking_id uuid NOT NULL REFERENCES bookings,
    token_sha256 bytea NOT NULL UNIQUE,
    created_by uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ix_share_links_booking_id ON share_links (booking_id);
"""


def upgrade() -> None:
    # Needs a superuser unless an administrator has done it; then it changes nothing.
    op.execute("CREATE EXTENSION IF NOT EXISTS postgis")
    op.execute(TABLES)


def downgrade() -> None:
    # PostGIS stays: other schemas of the database may use it.
    op.execute(
        "DROP TABLE share_links, published_watermarks, outbox, parked_updates, route_metadata,"
        " waypoints, assignments, tracks, booking_facts, bookings"
    )
