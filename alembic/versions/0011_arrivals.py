"""What was said of arrivals: one row for each of a trip's ways."""

from alembic import op

revision: str = "0011"
down_revision: str | None = "0010"
branch_labels: str | None = None
depends_on: str | None = None

# The release before neither reads nor writes it.
UPGRADE = """
CREATE TABLE arrivals (
    track_id uuid NOT NULL REFERENCES tracks (id) ON DELETE CASCADE,
    way_end text NOT NULL,
    state text NOT NULL,
    approaching_at timestamptz,
    arrived_at timestamptz,
    detected_at timestamptz,
    evidence_seq bigint,
    left_at timestamptz,
    event_id uuid,
    closed_at timestamptz,
    PRIMARY KEY (track_id, way_end),
    CONSTRAINT arrivals_way_end CHECK (way_end IN ('pickup', 'dropoff')),
    CONSTRAINT arrivals_state CHECK (state IN ('en_route', 'approaching', 'arrived'))
);
INSERT INTO code_revisions VALUES ('0011');
"""

DOWNGRADE = """
DELETE FROM code_revisions WHERE revision = '0011';
DROP TABLE arrivals;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
