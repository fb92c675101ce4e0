"""What of a running trip's route is left out, and where its marker stands meanwhile."""

from alembic import op

revision: str = "0013"
down_revision: str | None = "0012"
branch_labels: str | None = None
depends_on: str | None = None

# Metadata only. The release before writes none of them: `judged_seq` is behind the head then, and
# whoever knows it judges the whole route.
UPGRADE = """
ALTER TABLE tracks
    ADD COLUMN judged_seq bigint NOT NULL DEFAULT 0,
    ADD COLUMN left_out bigint NOT NULL DEFAULT 0,
    ADD COLUMN left_out_mm bigint NOT NULL DEFAULT 0,
    ADD COLUMN marker_recorded_at timestamptz,
    ADD COLUMN marker_runner_id uuid,
    ADD COLUMN marker_reported_at timestamptz,
    ADD COLUMN marker_position geometry(POINT, 4326);
INSERT INTO code_revisions VALUES ('0013');
"""

# The distance is that of all waypoints again, as the release before has it.
DOWNGRADE = """
UPDATE tracks SET distance_mm = distance_mm + left_out_mm, version = version + 1
    WHERE left_out_mm <> 0;
DELETE FROM code_revisions WHERE revision = '0013';
ALTER TABLE tracks
    DROP COLUMN judged_seq, DROP COLUMN left_out, DROP COLUMN left_out_mm,
    DROP COLUMN marker_recorded_at, DROP COLUMN marker_runner_id, DROP COLUMN marker_reported_at,
    DROP COLUMN marker_position;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
